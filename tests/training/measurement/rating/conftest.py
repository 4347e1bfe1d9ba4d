"""A design without pictures: what is tested of a rating needs none."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from training.measurement.rating.answers import Rated
from training.measurement.rating.designing import documents, planned
from training.measurement.rating.items import Item
from training.measurement.rating.protocol import Protocol

RATERS = tuple("abcdefgh")
GOLD = {"model_realism": [0], "craft_design": [0], "design_aesthetics": [0]}


def items_of(per_category: int, methods: Sequence[str] = ("human", "perfusion"), gold: int = 2) -> list[Item]:
    """As many items of every method in two categories, and gold items of which nothing but 0 is right."""
    items = [
        Item(f"{category}-{method}-{n}", category, method, Path(f"{category}-{method}-{n}.png"))
        for category in ("coat", "dress")
        for method in methods
        for n in range(per_category)
    ]
    return items + [Item(f"gold-{n}", "coat", "human", Path("gold.png"), GOLD) for n in range(gold)]


def rated_of(items: Sequence[Item], protocol: Protocol, seed: int = 0, raters: Sequence[str] = RATERS) -> Rated:
    plan = planned(items, raters, protocol, seed)
    sizes, digests = dict.fromkeys(plan.pictures, (800, 600)), dict.fromkeys(plan.pictures, "0" * 64)
    return Rated(*documents(plan, protocol, "human", seed, datetime(2026, 1, 1, tzinfo=UTC), sizes, digests), protocol)


@pytest.fixture(scope="session")
def rated() -> Rated:
    return rated_of(items_of(10), Protocol(draws=200))
