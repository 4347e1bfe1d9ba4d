"""Intervals that need no draws agree with those by draws where there are many stores."""

import numpy as np
import pytest

from lab.shop.stores import Shop, counts
from training.measurement.lift.counts import StoreCounts
from training.measurement.lift.estimators import LogRatios, pooled
from training.measurement.lift.intervals import fieller, student, studentised
from training.measurement.resampling import draw_counts


@pytest.fixture(scope="module")
def stores() -> StoreCounts:
    items, _ = counts(Shop(stores=300, lift=0.13), np.random.default_rng(0))
    found = StoreCounts.of(items)
    return found.only(found.exposed(500))


@pytest.fixture(scope="module")
def drawn(stores: StoreCounts) -> np.ndarray:
    return draw_counts(len(stores.store), 4_000, np.random.default_rng(1))


def test_fiellers_bounds_are_nearly_those_of_the_store_bootstrap(stores: StoreCounts, drawn: np.ndarray) -> None:
    low, high = np.percentile(pooled(stores, drawn), [2.5, 97.5])
    assert fieller(stores, 0.95) == pytest.approx((low, high), abs=0.25 * (high - low))


def test_students_bounds_are_nearly_those_of_the_store_bootstrap(stores: StoreCounts, drawn: np.ndarray) -> None:
    ratios = LogRatios.of(stores, 0.4)
    low, high = studentised(ratios, drawn, 0.95)
    assert student(ratios, 0.95) == pytest.approx((low, high), abs=0.15 * (high - low))
    inner = studentised(ratios, drawn, 0.5)
    assert low < inner[0] < inner[1] < high


def test_fieller_by_hand() -> None:
    """Two stores: the rates, the covariance of their errors and the quadratic, step by step."""
    stores = StoreCounts(
        np.arange(3),
        np.array([[10.0, 12], [20, 26], [33, 30]]),
        np.array([[100.0, 100], [200, 200], [300, 300]]),
        np.ones((3, 2)),
    )
    b, a = 63 / 600, 68 / 600
    u = np.array([10 - b * 100, 20 - b * 200, 33 - b * 300]) / 600
    w = np.array([12 - a * 100, 26 - a * 200, 30 - a * 300]) / 600
    t2 = 4.302652729911275**2  # Student's t of two degrees of freedom
    roots = np.roots([b * b - t2 * 1.5 * u @ u, -2 * (a * b - t2 * 1.5 * u @ w), a * a - t2 * 1.5 * w @ w])
    assert fieller(stores, 0.95) == pytest.approx(sorted(roots - 1))


def test_where_there_are_no_bounds_there_are_none() -> None:
    one = StoreCounts(np.arange(1), np.array([[3.0, 4]]), np.array([[10.0, 10]]), np.ones((1, 2)))
    ratios = LogRatios.of(one, 0.0)
    assert np.isnan([*fieller(one, 0.95), *student(ratios, 0.95), *studentised(ratios, np.ones((50, 1)), 0.95)]).all()
    wild = StoreCounts(np.arange(2), np.array([[0.0, 4], [1, 0]]), np.full((2, 2), 10.0), np.ones((2, 2)))
    assert np.isnan(fieller(wild, 0.95)).all()
    none = StoreCounts(np.arange(2), np.array([[0.0, 4], [0, 1]]), np.full((2, 2), 10.0), np.ones((2, 2)))
    assert np.isnan(fieller(none, 0.95)).all()
