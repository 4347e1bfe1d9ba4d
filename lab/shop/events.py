"""A simulated shop event by event: impressions, clicks, orders and returns, in the columns that training.measurement
reads.

Clicks depend on the position, on the item's quality, and on its age: a new item gets more of them. Arms may differ in
what is no lift: where items are shown, and how old they are. Some impressions come twice, as a page that is loaded
again or as an event that was delivered again. Knows chances; no estimators.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

START_US = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DAY_US = 86_400_000_000
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Visits:
    """What the simulation draws from."""

    stores: int = 40
    items: int = 24  # of a store
    treated: float = 0.4
    impressions: int = 3_000  # of the median store
    size_spread: float = 0.6
    days: int = 28
    click: float = 0.10  # chance at the first position of an old item
    order: float = 0.12  # of a click
    returned: float = 0.2  # of an order
    lift: float = 0.0  # of click-through
    order_lift: float = 0.0  # of conversion
    novelty: float = 0.5  # how much more an item gets on its first day
    novelty_days: float = 14.0  # after which e times less of it is left
    quality: float = 0.1  # squared coefficient of variation among items
    ahead: float = 0.0  # positions by which treated items are shown higher, in shares of the page
    younger: float = 0.0  # share of treated items that were created while the shop was watched
    again: float = 0.03  # of impressions that come a second time
    surfaces: tuple[str, ...] = ("search", "recommendation")


def table(visits: Visits, rng: np.random.Generator) -> pa.Table:
    """All events of the days watched."""
    n_items = visits.stores * visits.items
    store = np.repeat(np.arange(visits.stores), visits.items)
    treated = rng.random(n_items) < visits.treated
    born = -rng.uniform(0, 200, n_items) * _DAY_US / 1
    young = treated & (rng.random(n_items) < visits.younger)
    born = np.where(young, rng.uniform(0, visits.days / 2, n_items) * _DAY_US, born).astype(np.int64)
    quality = rng.gamma(1 / visits.quality, visits.quality, n_items) if visits.quality else np.ones(n_items)
    size = np.exp(visits.size_spread * rng.normal(size=visits.stores))
    item = np.repeat(np.arange(n_items), rng.poisson((visits.impressions / visits.items * size)[store]))
    first = np.maximum(born[item], 0)
    time = (first + rng.random(len(item)) * (visits.days * _DAY_US - first)).astype(np.int64)
    place = np.clip(rng.random(len(item)) - visits.ahead * treated[item] * rng.random(len(item)), 0, 1)
    position = np.floor(24 * place).astype(int)
    age = (time - born[item]) / _DAY_US
    new = 1 + visits.novelty * np.exp(-age / visits.novelty_days)
    click = visits.click * (1 + position) ** -0.4 * quality[item] * new * (1 + visits.lift * treated[item])
    clicked = np.flatnonzero(rng.random(len(item)) < np.minimum(click, 1))
    chance = visits.order * (1 + visits.order_lift * treated[item[clicked]])
    ordered = clicked[rng.random(len(clicked)) < chance]
    back = ordered[rng.random(len(ordered)) < visits.returned]
    twice = np.flatnonzero(rng.random(len(item)) < visits.again)
    surface = rng.integers(len(visits.surfaces), size=len(item))
    viewer = rng.integers(10**9, size=len(item))
    parts = [
        ("impression", np.arange(len(item)), 0), ("impression", twice, 60), ("click", clicked, 5),
        ("order", ordered, 600), ("return", back, 5 * 86_400),
    ]  # fmt: skip
    event = np.concatenate([of for _, of, _ in parts])
    late = np.concatenate([np.full(len(of), s) for _, of, s in parts]) * 1_000_000
    of = item[event]
    return pa.table({
        "event_id": [f"e{n}" for n in range(len(event))],
        "kind": np.concatenate([np.full(len(of), kind) for kind, of, _ in parts]),
        "item_id": [f"item-{n}" for n in of],
        "user_id": [f"store-{n}" for n in store[of]],
        "arm": np.where(treated[of], "treatment", "control"),
        "surface": np.array(visits.surfaces)[surface[event]],
        "position": position[event],
        "create_time": pa.array(START_US + time[event] + late, _TIME),
        "item_create_time": pa.array(START_US + born[of], _TIME),
        "viewer_hash": [f"v{n}" for n in viewer[event]],
        "units": np.ones(len(event), int),
    })  # fmt: skip


def redelivered(events: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    """The events with a share of them a second time, under the same event_id."""
    again = events.take(pa.array(np.flatnonzero(rng.random(len(events)) < share)))
    return pa.concat_tables([events, again])
