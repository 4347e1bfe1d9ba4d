"""Counts of one metric: by item, and by store and arm. Knows numbers; no events and no names of metrics."""

from dataclasses import dataclass

import numpy as np

CONTROL, TREATMENT = 0, 1


@dataclass(frozen=True, eq=False)
class ItemCounts:
    """What each item got, a row an item.

    store     int (I,)
    treated   bool (I,)
    events    float (I,), what is counted: clicks, say
    exposure  float (I,), what it is counted by: impressions, say, or how many clicks were to be expected
    """

    store: np.ndarray
    treated: np.ndarray
    events: np.ndarray
    exposure: np.ndarray

    def only(self, where: np.ndarray) -> "ItemCounts":
        """The rows `where`, bool (I,)."""
        return ItemCounts(self.store[where], self.treated[where], self.events[where], self.exposure[where])


@dataclass(frozen=True, eq=False)
class StoreCounts:
    """What each store got in each arm, control first; a row a store that is compared.

    store     int (S,)
    events    float (S, 2)
    exposure  float (S, 2)
    items     float (S, 2), effective number of items: (Σ exposure)² / Σ exposure²
    """

    store: np.ndarray
    events: np.ndarray
    exposure: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, counts: ItemCounts) -> "StoreCounts":
        """All stores that have any item."""
        stores, row = np.unique(counts.store, return_inverse=True)
        place = 2 * row + counts.treated

        def summed(of: np.ndarray) -> np.ndarray:
            return np.bincount(place, of, 2 * len(stores)).astype(float).reshape(-1, 2)

        exposure, squares = summed(counts.exposure), summed(counts.exposure**2)
        items = np.divide(exposure**2, squares, out=np.zeros_like(exposure), where=squares > 0)
        return cls(stores, summed(counts.events), exposure, items)

    def only(self, where: np.ndarray) -> "StoreCounts":
        """The rows `where`, bool (S,)."""
        return StoreCounts(self.store[where], self.events[where], self.exposure[where], self.items[where])

    def exposed(self, least: float) -> np.ndarray:
        """Which stores have that much exposure in both arms, bool (S,). What is counted has no say in it."""
        return np.asarray((self.exposure >= max(least, np.finfo(float).tiny)).all(1))


def item_variance(counts: ItemCounts) -> float:
    """ω: the squared coefficient of variation of rates among the items of one store and arm; 0 at least.

    By moments. With h the items' shares of their arm's exposure and X its events, items that share one rate have
    E Σ (x − hX)² = E[X] · (1 − Σh²), and rates that vary add ω · E[X]² · (Σh² − 2 Σh³ + (Σh²)²). Both sides are divided
    by X, so that no arm outweighs the others by its size alone. With few items it comes out low, by a tenth for ω = ½.
    """
    _, arm = np.unique(2 * counts.store + counts.treated, return_inverse=True)

    def summed(of: np.ndarray) -> np.ndarray:
        return np.bincount(arm, of)

    events, exposure = summed(counts.events), summed(counts.exposure)
    share = counts.exposure / np.maximum(exposure, np.finfo(float).tiny)[arm]
    second, third = summed(share**2), summed(share**3)
    squares = summed((counts.events - share * events[arm]) ** 2)
    there = events > 0
    excess = (squares[there] / events[there] - (1 - second[there])).sum()
    scale = ((events - 1)[there] * (second - 2 * third + second**2)[there]).sum()
    return float(max(0.0, excess / scale)) if scale > 0 else 0.0
