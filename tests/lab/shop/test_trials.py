"""Trials say how far off an estimator is, and the gate closes on one that is."""

import numpy as np
import pytest

from lab.shop import trials
from lab.shop.events import Visits
from lab.shop.stores import Shop
from lab.shop.trials import SCENARIOS, Scenario, event_by_event, nothing_at_all, passes, trial

SMALL = Shop(stores=40)


def test_a_trial_finds_the_papers_bias_and_none_of_the_primarys() -> None:
    found = trial(Scenario(SMALL.of(lift=0.13), "small"), 150, seed=1, draws=200)
    assert found["truth"] == pytest.approx(0.13)
    assert abs(found["primary"]["bias"]) < 3 * found["primary"]["bias_error"]
    assert found["paper"]["bias"] > 2 * found["paper"]["bias_error"]
    assert 0.8 < found["primary"]["coverage"] <= 1
    assert 0.8 < found["pooled"]["coverage_fieller"] <= 1


def test_where_lifts_go_with_size_the_truth_is_that_of_the_stores_compared() -> None:
    found = trial(Scenario(SMALL.of(lift=0.13, lift_by_size=0.1), "larger better"), 20, draws=50)
    assert found["truth"] > 0.14


@pytest.mark.parametrize(
    ("bias", "coverage", "opens"),
    [(0.0, 0.95, True), (0.006, 0.95, False), (-0.006, 0.95, False), (0.0, 0.92, False), (0.0, 0.98, False)],
)
def test_the_gate_wants_no_bias_and_intervals_that_are_what_they_say(bias: float, coverage: float, opens: bool) -> None:
    assert passes({"primary": {"bias": bias, "coverage": coverage}}) is opens


def test_a_biased_estimator_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's in the place of the primary one."""
    true = trials.lift_of

    def swapped(*arguments: object, **options: object) -> dict[str, object]:
        found = true(*arguments, **options)  # type: ignore[arg-type]
        return found | {"primary": found["paper"] | {"student": {"low": 0.0, "high": 0.0}}}

    monkeypatch.setattr(trials, "lift_of", swapped)
    assert not passes(trial(Scenario(SMALL, "small"), 60, draws=100))


def test_the_bias_by_clicks_is_that_of_the_spec() -> None:
    for clicks, expected in ((10, 0.130), (20, 0.056), (50, 0.021)):
        found = nothing_at_all(clicks, 100)
        assert found["paper"] == pytest.approx(expected, abs=0.01)
        assert abs(found["primary"]) < 0.008


def test_every_gated_scenario_is_one_whose_truth_is_planted() -> None:
    gated = [of.shop for of in SCENARIOS.values() if of.gated]
    assert {shop.lift for shop in gated} == {0.0, 0.13}
    assert all(shop.lift_by_size == 0 for shop in gated)


def test_adjusting_takes_away_what_places_and_ages_do() -> None:
    found = event_by_event(Visits(stores=30, ahead=0.25, younger=0.5), 2)
    assert found["plain"]["primary"]["bias"] > 0.2
    assert abs(found["adjusted"]["primary"]["bias"]) < 0.12
    assert np.isfinite(found["adjusted"]["primary"]["bias_error"])
