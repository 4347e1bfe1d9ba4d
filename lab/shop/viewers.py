"""Simulated viewers with a known lift: chance puts each in an arm, and all that a viewer does is done in it.

Viewers differ in how much they look and in how readily they click, and those who look more may click less: so their
impressions are not independent. A/A is a crowd whose lift is 0. Knows chances; no estimators.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lab.shop.events import START_US
from training.measurement.lift.viewer_events import ViewerCounts

_DAY_US = 86_400_000_000
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Crowd:
    """What the simulation draws from."""

    viewers: int = 4_000
    treated: float = 0.5  # share of viewers
    lift: float = 0.0  # of click-through
    impressions: float = 12.0  # of the typical viewer
    looks_spread: float = 1.0  # deviation of log impressions among viewers
    rate: float = 0.05
    rate_spread: float = 1.0  # deviation of log rates among viewers
    together: float = -0.3  # correlation of the two
    order: float = 0.15  # of a click
    returned: float = 0.2  # of an order

    def of(self, **changes: float) -> "Crowd":
        """The same with these changes."""
        return replace(self, **changes)  # type: ignore[arg-type]


def viewer_counts(crowd: Crowd, rng: np.random.Generator) -> ViewerCounts:
    """Clicks by impressions of every viewer, in one draw of the crowd."""
    looks, rate, treated = _crowd(crowd, rng)
    return ViewerCounts(treated, rng.binomial(looks, rate).astype(float), looks.astype(float))


def viewer_table(crowd: Crowd, rng: np.random.Generator, stores: int = 5, items: int = 20) -> pa.Table:
    """The same event by event, over stores that viewers visit as they like, in the columns that training.measurement
    reads."""
    looks, rate, treated = _crowd(crowd, rng)
    viewer = np.repeat(np.arange(len(looks)), looks)
    clicked = np.flatnonzero(rng.random(len(viewer)) < rate[viewer])
    ordered = clicked[rng.random(len(clicked)) < crowd.order]
    back = ordered[rng.random(len(ordered)) < crowd.returned]
    parts = (
        ("impression", np.arange(len(viewer)), 0), ("click", clicked, 5), ("order", ordered, 600),
        ("return", back, 5 * 86_400),
    )  # fmt: skip
    event = np.concatenate([of for _, of, _ in parts])
    late = np.concatenate([np.full(len(of), s) for _, of, s in parts]) * 1_000_000
    time = (rng.random(len(viewer)) * 28 * _DAY_US).astype(np.int64)
    item, of = rng.integers(stores * items, size=len(viewer))[event], viewer[event]
    return pa.table({
        "event_id": [f"e{n}" for n in range(len(event))],
        "kind": np.concatenate([np.full(len(of), kind) for kind, of, _ in parts]),
        "item_id": [f"item-{n}" for n in item],
        "user_id": [f"store-{n // items}" for n in item],
        "arm": np.where(treated[of], "treatment", "control"),
        "surface": np.array(["search", "recommendation"])[item % 2],
        "position": np.zeros(len(event), int),
        "create_time": pa.array(START_US + time[event] + late, _TIME),
        "item_create_time": pa.array(np.full(len(event), START_US), _TIME),
        "viewer_hash": [f"v{n}" for n in of],
        "units": np.ones(len(event), int),
    })  # fmt: skip


def _crowd(crowd: Crowd, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Impressions, chance of a click and whether treated, of every viewer who looks at all."""
    normal = rng.normal(size=(2, crowd.viewers))
    apart = crowd.together * normal[0] + np.sqrt(1 - crowd.together**2) * normal[1]
    looks = rng.poisson(crowd.impressions * np.exp(crowd.looks_spread * normal[0]))
    treated = rng.random(crowd.viewers) < crowd.treated
    rate = crowd.rate * np.exp(crowd.rate_spread * apart - crowd.rate_spread**2 / 2)
    chance = np.minimum(rate, 0.5) * (1 + crowd.lift * treated)
    there = looks > 0
    return looks[there], chance[there], treated[there]
