"""Simulated stores with a known lift: sizes, items, exposures and events as counts.

A store has a size, a rate, and a lift of its own around the planted one. Its items differ in quality and in how often
they are shown; which of them are treated, chance decides. A/A is a shop whose lift is 0. Knows chances; no estimators.
"""

from dataclasses import dataclass, replace

import numpy as np

from training.measurement.lift.counts import ItemCounts


@dataclass(frozen=True)
class Shop:
    """What the simulation draws from."""

    stores: int = 200
    lift: float = 0.0  # of the typical store
    lift_spread: float = 0.10  # deviation of log lifts among stores
    events: float = 60.0  # expected events of the control arm in the median store
    size_spread: float = (
        1.0  # deviation of log sizes among stores: from 1 to 50 between the 2.5th and 97.5th percentile
    )
    items: float = 24.0  # of the median store
    treated: float = 0.3  # share of items
    rate: float = 0.04
    rate_spread: float = 0.5
    quality: float = 0.3  # ω, squared coefficient of variation of rates among items
    shown: float = 1.0  # the same of how often items are shown
    burst: float = 0.1  # the same of one item's events from day to day, which does not average out over impressions
    lift_by_size: float = 0.0  # how a store's log lift grows with its log size over the median
    treated_by_rate: float = 0.0  # how the logit of its share of treated items grows with its log rate

    def of(self, **changes: float) -> "Shop":
        """The same with these changes."""
        return replace(self, **changes)  # type: ignore[arg-type]


def counts(shop: Shop, rng: np.random.Generator) -> tuple[ItemCounts, np.ndarray]:
    """One draw of the whole shop, and the log lift of every store, (S,)."""
    size = np.exp(shop.size_spread * rng.normal(size=shop.stores))
    log_rate = shop.rate_spread * rng.normal(size=shop.stores)
    rate = shop.rate * np.exp(log_rate - shop.rate_spread**2 / 2)
    log_lift = np.log1p(shop.lift) + shop.lift_spread * rng.normal(size=shop.stores) + shop.lift_by_size * np.log(size)
    n_items = np.maximum(4, rng.poisson(shop.items * np.sqrt(size)))
    logit = np.log(shop.treated / (1 - shop.treated)) + shop.treated_by_rate * log_rate
    n_treated = np.clip(rng.binomial(n_items, 1 / (1 + np.exp(-logit))), 1, n_items - 1)
    store = np.repeat(np.arange(shop.stores), n_items)
    within = np.arange(len(store)) - np.repeat(n_items.cumsum() - n_items, n_items)
    treated = within < n_treated[store]  # the items are alike before chance makes them different
    impressions = shop.events / shop.rate / (1 - shop.treated) * size
    mean = (impressions / n_items)[store]
    exposure = rng.poisson(mean * _around_one(shop.shown, len(store), rng)).astype(float)
    quality = _around_one(shop.quality, len(store), rng) * _around_one(shop.burst, len(store), rng)
    expected = exposure * rate[store] * quality * np.exp(log_lift[store] * treated)
    return ItemCounts(store, treated, rng.poisson(expected).astype(float), exposure), log_lift


def equal_arms(clicks: float, stores: int, rng: np.random.Generator) -> ItemCounts:
    """Two arms of one item each with equally many impressions and expected clicks, and no lift at all."""
    store = np.repeat(np.arange(stores), 2)
    return ItemCounts(
        store, np.tile([False, True], stores), rng.poisson(clicks, 2 * stores) * 1.0, np.full(2 * stores, 1.0)
    )


def _around_one(variance: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Gamma variables with mean 1."""
    return rng.gamma(1 / variance, variance, n) if variance > 0 else np.ones(n)
