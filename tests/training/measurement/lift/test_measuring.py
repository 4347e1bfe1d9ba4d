"""One metric's report: exposure decides who is compared, and what is counted has no say."""

from dataclasses import replace

import numpy as np
import pytest

from lab.shop.stores import Shop, counts
from training.measurement.lift.counts import ItemCounts
from training.measurement.lift.measuring import lift_of

SHOP = Shop(stores=120, events=200.0)


def items(shop: Shop = SHOP, seed: int = 0) -> ItemCounts:
    return counts(shop, np.random.default_rng(seed))[0]


def test_a_planted_lift_is_within_its_interval_and_no_lift_is_not() -> None:
    found = lift_of(items(SHOP.of(lift=0.3)), 500, draws=500)
    assert 0 < found["primary"]["low"] < 0.3 < found["primary"]["high"]
    assert found["primary"]["student"]["low"] == pytest.approx(found["primary"]["low"], abs=0.02)
    assert found["primary"]["tau"] == pytest.approx(0.1, abs=0.1)


def test_dropping_depends_on_exposure_alone() -> None:
    given = items()
    found = lift_of(given, 2_000, draws=50)
    other = lift_of(replace(given, events=given.events * 3), 2_000, draws=50)
    assert 0 < len(found["dropped_stores"]) == 120 - found["stores"]
    assert found["dropped_stores"] == other["dropped_stores"]


def test_adjusted_exposure_changes_the_rates_and_not_who_is_compared() -> None:
    given = items()
    expected = np.where(given.treated, 2.0, 1.0) * given.exposure
    plain, adjusted = lift_of(given, 2_000, draws=50), lift_of(given, 2_000, draws=50, expected=expected)
    assert plain["dropped_stores"] == adjusted["dropped_stores"]
    assert 1 + adjusted["pooled"]["value"] == pytest.approx((1 + plain["pooled"]["value"]) / 2)
    assert 1 + adjusted["primary"]["value"] == pytest.approx((1 + plain["primary"]["value"]) / 2, rel=0.05)


def test_shrunken_stores_lie_between_their_own_ratio_and_the_mean() -> None:
    found = lift_of(items(), 500, draws=50)
    mean = np.log1p(found["primary"]["value"])
    for store in found["by_store"]:
        own, shrunken = np.log1p(store["lift"]), np.log1p(store["shrunken"])
        assert min(own, mean) - 1e-9 <= shrunken <= max(own, mean) + 1e-9


def test_one_store_or_no_event_at_all_is_no_measurement() -> None:
    given = items()
    assert lift_of(given.only(given.store == 0), 1)["primary"] is None
    assert lift_of(replace(given, events=0 * given.events), 500)["primary"] is None
    assert lift_of(given, 1e9)["stores"] == 0


@pytest.mark.parametrize(("lift", "seed"), [(0.0, 1), (0.13, 2)])
def test_a_small_gate(lift: float, seed: int) -> None:
    """A hundred shops here; `make eval-lift` has a thousand of each kind (lab.shop.lift_check)."""
    rng = np.random.default_rng(seed)
    shop = Shop(stores=80, lift=lift, lift_spread=0.1 if lift else 0.0)
    found = [lift_of(counts(shop, rng)[0], 500, draws=300, seed=n) for n in range(100)]
    value, low, high = (np.array([of["primary"][part] for of in found]) for part in ("value", "low", "high"))
    assert abs(value.mean() - lift) < 3 * value.std() / 10
    assert 89 <= ((low <= lift) & (lift <= high)).sum() <= 100
    assert np.mean([of["paper"]["value"] for of in found]) > lift + 0.03
