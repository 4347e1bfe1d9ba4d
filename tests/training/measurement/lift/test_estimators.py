"""The three estimators: what they are on paper, and what they find where there is nothing."""

import numpy as np
import pytest

from lab.shop.stores import equal_arms
from training.measurement.lift.counts import StoreCounts
from training.measurement.lift.estimators import LogRatios, paper, pooled, primary

ONCE = np.ones((1, 2))
TWO = StoreCounts(
    np.arange(2),
    np.array([[10.0, 30.0], [40.0, 20.0]]),
    np.array([[100.0, 100.0], [200.0, 200.0]]),
    np.full((2, 2), 5.0),
)


def test_the_papers_is_the_mean_of_ratios_and_the_pooled_one_the_ratio_of_sums() -> None:
    assert paper(TWO, ONCE)[0] == pytest.approx((3 + 0.5) / 2 - 1)
    assert pooled(TWO, ONCE)[0] == pytest.approx(50 / 50 - 1)
    assert paper(TWO, np.array([[2.0, 0.0], [0.0, 1.0]])) == pytest.approx([2, -0.5])


def test_stores_without_a_control_event_have_no_ratio() -> None:
    none = StoreCounts(TWO.store, np.array([[0.0, 3.0], [40.0, 20.0]]), TWO.exposure, TWO.items)
    assert paper(none, ONCE)[0] == pytest.approx(-0.5)
    assert np.isnan(paper(none, np.array([[1.0, 0.0]]))[0])
    assert np.isnan(pooled(none, np.array([[1.0, 0.0]]))[0])
    assert np.isfinite(primary(none, ONCE, 0.0)[0])


def test_the_primary_log_ratio_and_its_variance_written_out() -> None:
    found = LogRatios.of(
        StoreCounts(np.arange(1), *(of[:1] for of in (TWO.events, TWO.exposure)), np.array([[4.0, 2.0]])), 0.2
    )
    assert found.y[0] == pytest.approx(np.log(30.5 / 10.5) + 0.1 * (1 / 2 - 1 / 4))
    expected = 100 * 41 / 200
    assert found.v[0] == pytest.approx(2 / expected + 0.2 * (1 / 2 + 1 / 4))


def test_between_is_dersimonian_and_lairds() -> None:
    """By their formula, on numbers small enough for paper."""
    ratios = LogRatios(np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.1]))
    w = np.array([10.0, 5.0, 10.0])
    q = (w * (ratios.y - 1.0) ** 2).sum()
    tau2 = (q - 2) / (w.sum() - (w**2).sum() / w.sum())
    assert ratios.between(np.ones((1, 3)))[0] == pytest.approx(tau2)
    assert ratios.mean(np.ones((1, 3)))[0][0] == pytest.approx(1.0)
    shrunken = ratios.shrunken()
    assert shrunken == pytest.approx(1 + tau2 / (tau2 + ratios.v) * (ratios.y - 1))


def test_equal_stores_have_nothing_between_them_and_shrink_to_one() -> None:
    ratios = LogRatios(np.array([0.1, 0.1, 0.1]), np.array([0.1, 0.2, 0.3]))
    assert ratios.between(np.ones((1, 3)))[0] == 0
    assert ratios.shrunken() == pytest.approx(np.full(3, 0.1))


def test_a_draw_is_as_good_as_a_copy_of_its_stores() -> None:
    rng = np.random.default_rng(0)
    y, v, often = rng.normal(size=9), rng.uniform(0.1, 1, 9), rng.integers(0, 3, 9)
    copied = LogRatios(np.repeat(y, often), np.repeat(v, often))
    whole = np.ones((1, int(often.sum())))
    found, expected = LogRatios(y, v).mean(often[None].astype(float)), copied.mean(whole)
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1])


@pytest.mark.parametrize(("clicks", "bias"), [(10, 0.130), (20, 0.056), (50, 0.021)])
def test_the_papers_estimator_finds_a_lift_where_there_is_none(clicks: float, bias: float) -> None:
    """E[1/x] of a Poisson variable that is not 0, times its mean; the other two find nothing."""
    stores = StoreCounts.of(equal_arms(clicks, 60_000, np.random.default_rng(0)))
    once = np.ones((1, 60_000))
    assert paper(stores, once)[0] == pytest.approx(bias, abs=0.008)
    assert abs(pooled(stores, once)[0]) < 0.004
    assert abs(primary(stores, once, 0.0)[0]) < 0.004
