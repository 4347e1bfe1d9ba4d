"""Counts by store and arm, and how much items differ."""

import numpy as np
import pytest

from training.measurement.lift.counts import ItemCounts, StoreCounts, item_variance


def test_stores_are_summed_by_arm_control_first() -> None:
    items = ItemCounts(
        np.array([7, 7, 7, 3]), np.array([False, True, True, False]),
        np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 60, 40]),
    )  # fmt: skip
    found = StoreCounts.of(items)
    assert found.store.tolist() == [3, 7]
    assert found.events.tolist() == [[4, 0], [1, 5]]
    assert found.exposure.tolist() == [[40, 0], [10, 80]]
    assert found.items.tolist() == [[1, 0], [1, pytest.approx(80**2 / (20**2 + 60**2))]]
    assert found.exposed(10).tolist() == [False, True]
    assert found.exposed(11).tolist() == [False, False]
    assert found.exposed(0).tolist() == [False, True]  # an arm without exposure has no rate


def items_of(omega: float, seed: int = 0) -> ItemCounts:
    rng = np.random.default_rng(seed)
    store = np.repeat(np.arange(300), 12)
    treated = np.tile(np.arange(12) < 4, 300)
    exposure = rng.uniform(50, 2_000, len(store))
    quality = rng.gamma(1 / omega, omega, len(store)) if omega else np.ones(len(store))
    rate = rng.uniform(0.01, 0.1, 300)[store]
    return ItemCounts(store, treated, rng.poisson(exposure * rate * quality).astype(float), exposure)


@pytest.mark.parametrize("omega", [0.0, 0.1, 0.5])
def test_the_variance_among_items_is_found(omega: float) -> None:
    assert item_variance(items_of(omega)) == pytest.approx(omega, abs=0.02 + 0.15 * omega)


def test_without_two_items_in_any_arm_there_is_none() -> None:
    single = ItemCounts(np.arange(4), np.ones(4, bool), np.full(4, 9.0), np.full(4, 100.0))
    assert item_variance(single) == 0
    assert item_variance(single.only(np.zeros(4, bool))) == 0
