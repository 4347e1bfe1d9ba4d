"""The estimator by viewers: no lift where there is none, the planted one where there is, and intervals over viewers."""

import numpy as np
import pytest

from lab.shop.trials import CROWDS, passes, viewer_trial
from lab.shop.viewers import Crowd, viewer_counts, viewer_table
from training.measurement.lift.metrics import metrics_of
from training.measurement.lift.viewer_events import ViewerCounts, viewer_events_of
from training.measurement.lift.viewers import fieller, viewer_lift, viewer_placebo, viewer_ratio

RUNS = 400


def test_a_a_holds_and_an_interval_that_forgets_viewers_does_not() -> None:
    crowd, says, gated = CROWDS["viewers_a_a"]
    found = viewer_trial(crowd, says, gated, RUNS, seed=1)
    assert gated and passes(found)
    assert found["every_event_by_itself"]["coverage"] < 0.85
    assert found["design_effect"] > 2


def test_a_planted_lift_is_found() -> None:
    crowd, says, gated = CROWDS["viewers_planted"]
    found = viewer_trial(crowd, says, gated, RUNS, seed=2)
    assert gated and passes(found)
    assert found["primary"]["mean"] == pytest.approx(0.13, abs=0.01)


def test_the_variance_is_that_of_the_bootstrap_over_viewers() -> None:
    rng = np.random.default_rng(3)
    counts = viewer_counts(Crowd(viewers=1_000), rng)
    found = viewer_lift(counts, 500)["lift"]
    drawn = []
    for _ in range(1_000):
        took = rng.integers(len(counts.treated), size=len(counts.treated))
        again = ViewerCounts(counts.treated[took], counts.events[took], counts.exposure[took])
        drawn.append(np.log1p(viewer_lift(again, 500)["lift"]["value"]))
    half = (np.log1p(found["high"]) - np.log1p(found["low"])) / 2
    assert half / 1.96 == pytest.approx(np.std(drawn), rel=0.1)
    assert found["fieller"]["low"] == pytest.approx(found["low"], abs=0.02)


def test_events_that_are_each_another_viewers_have_no_design_effect() -> None:
    """Then x is 0 or 1 at an exposure of 1, and the variance is the binomial's."""
    treated = np.arange(4_000) % 2 == 1
    counts = ViewerCounts(treated, (np.arange(4_000) % 20 < 2).astype(float), np.ones(4_000))
    found = viewer_lift(counts, 1)["lift"]
    assert found["value"] == 0
    assert found["design_effect"] == pytest.approx(0.9, rel=0.01)  # 1 − R


def test_too_little_exposure_and_no_event_give_no_lift() -> None:
    counts = ViewerCounts(np.array([False, True] * 3), np.ones(6), np.full(6, 10.0))
    assert viewer_lift(counts, 30)["lift"] is not None
    assert viewer_lift(counts, 31)["lift"] is None
    assert viewer_lift(ViewerCounts(counts.treated, 1.0 * counts.treated, counts.exposure), 30)["lift"] is None
    assert viewer_lift(counts, 30)["few_viewers"]


def test_fieller_has_no_bounds_where_the_control_may_be_nothing() -> None:
    assert np.isnan(fieller([0.1, 0.1], [0.3, 0.01], 1.96)).all()


def test_the_sample_ratio_of_viewers() -> None:
    assert not viewer_ratio(np.arange(1_000) % 2 == 0, 0.5)["wrong"]
    assert viewer_ratio(np.arange(1_000) % 5 < 2, 0.5)["wrong"]


def test_a_placebo_finds_what_chance_finds() -> None:
    counts = viewer_counts(Crowd(lift=0.5), np.random.default_rng(4))
    found = viewer_placebo(counts, 500, 200, 0.5)
    assert found["splits"] == 200
    assert 0.005 <= found["found_a_lift"] <= 0.11  # 5 %, and what 200 splits leave open
    assert abs(found["mean_lift"]) < 0.02


def test_event_by_event_it_is_the_same_estimator() -> None:
    crowd = Crowd(viewers=1_500, lift=0.4)
    found = viewer_events_of(viewer_table(crowd, np.random.default_rng(5)), window_s=0)
    lift = viewer_lift(found.counted(metrics_of(())[0]), 500)["lift"]
    assert 0 < lift["low"] < 0.4 < lift["high"]
