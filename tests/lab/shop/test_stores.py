"""Simulated stores are what they say."""

import numpy as np
import pytest

from lab.shop.stores import Shop, counts, equal_arms


def test_the_planted_lift_is_the_mean_of_the_stores_own() -> None:
    _, log_lift = counts(Shop(stores=5_000, lift=0.13, lift_spread=0.1), np.random.default_rng(0))
    assert log_lift.mean() == pytest.approx(np.log(1.13), abs=0.005)
    assert log_lift.std() == pytest.approx(0.1, abs=0.005)


def test_stores_are_of_very_different_sizes_and_arms_of_their_share() -> None:
    items, _ = counts(Shop(stores=400), np.random.default_rng(0))
    exposure = np.bincount(items.store, items.exposure)
    assert np.percentile(exposure, 97.5) / np.percentile(exposure, 2.5) > 20
    assert items.treated.mean() == pytest.approx(0.3, abs=0.02)
    assert all(0 < items.treated[items.store == store].sum() < (items.store == store).sum() for store in range(400))


def test_events_are_spread_more_than_poissons() -> None:
    items, _ = counts(Shop(stores=400, rate_spread=0.0, lift_spread=0.0), np.random.default_rng(0))
    expected = items.exposure * 0.04
    many = expected > 5
    spread = ((items.events - expected) ** 2)[many].sum() / expected[many].sum()
    assert spread > 1.5
    assert items.events.sum() / expected.sum() == pytest.approx(1, abs=0.03)


def test_stores_with_high_rates_may_treat_more() -> None:
    items, _ = counts(Shop(stores=2_000, treated_by_rate=1.0), np.random.default_rng(0))
    control, treated = (items.events[of].sum() / items.exposure[of].sum() for of in (~items.treated, items.treated))
    assert treated > 1.15 * control


def test_equal_arms_are_equal() -> None:
    items = equal_arms(10, 20_000, np.random.default_rng(0))
    control, treated = (items.events[items.treated == arm] for arm in (False, True))
    assert control.mean() == pytest.approx(10, abs=0.1)
    assert treated.mean() == pytest.approx(10, abs=0.1)
    assert (items.exposure == 1).all()
