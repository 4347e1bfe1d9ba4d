"""The whole report on a simulated shop whose lift is known."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from lab.shop.events import START_US, Visits, redelivered, table
from training.measurement.errors import MeasurementError
from training.measurement.lift.analysis import OBSERVATIONAL, analysed
from training.measurement.lift.events import Events, events_of
from training.measurement.lift.plan import LEAST, Plan

BEFORE = "2026-01-01T00:00:00+00:00"
SHOP = Visits(stores=40, items=16, impressions=4_000, lift=0.25, order_lift=0.4)
LESS = {**LEAST, "conversion": 30, "return_rate": 5, "orders_per_impression": 1_000}
PLAN = Plan(BEFORE, LESS, treated_share=0.4, draws=300)


@pytest.fixture(scope="module")
def events() -> Events:
    rng = np.random.default_rng(5)
    return events_of(redelivered(table(SHOP, rng), 0.02, rng), PLAN.window_s)


@pytest.fixture(scope="module")
def report(events: Events) -> dict[str, Any]:
    return analysed(events, PLAN, splits=5)


def test_planted_lifts_are_within_their_intervals(report: dict[str, Any]) -> None:
    click_through, conversion = (report["metrics"][name]["primary"] for name in ("click_through", "conversion"))
    assert 0 < click_through["low"] < 0.25 < click_through["high"]
    assert conversion["low"] < 0.4 < conversion["high"]
    adjusted = report["adjusted"]["primary"]
    assert 0 < adjusted["low"] < 0.25 < adjusted["high"]


def test_what_came_twice_is_counted_and_dropped(report: dict[str, Any], events: Events) -> None:
    dropped = report["events"]["dropped"]
    assert dropped["same_event_id"] > 0.01 * len(events.kind)
    assert dropped["within_window"] > 0.02 * report["events"]["arms"]["control"]["impression"]
    told = sum(of["click"] for of in report["events"]["arms"].values())
    assert told == (events.kind == 1).sum()


def test_a_randomised_comparison_is_checked_and_not_called_observational(report: dict[str, Any]) -> None:
    assert report["randomised"]
    assert not report["sample_ratio"]["wrong"]
    assert not any(OBSERVATIONAL in warning for warning in report["warnings"])
    assert report["plan"]["events_before_it"] == 0


def test_everything_that_is_off_is_said(events: Events) -> None:
    late = analysed(events, Plan("2026-03-15T00:00:00+00:00", PLAN.least, draws=100))
    assert late["warnings"][0] == OBSERVATIONAL
    assert late["sample_ratio"] is None
    told = " ".join(late["warnings"])
    before = (events.time_us < START_US + 14 * 86_400_000_000).sum()
    assert f"after {before} of the events" in told
    wrong = analysed(events, Plan(BEFORE, PLAN.least, treated_share=0.8, draws=100))
    assert any(warning.startswith("Sample ratio mismatch") for warning in wrong["warnings"])


def test_stores_of_little_exposure_are_dropped_by_name(events: Events) -> None:
    found = analysed(events, Plan(BEFORE, {**LEAST, "click_through": 2_000}, draws=100))["metrics"]["click_through"]
    assert 0 < len(found["dropped_stores"]) == 40 - found["stores"]
    assert set(found["dropped_stores"]) < set(events.stores)
    assert {of["store"] for of in found["by_store"]} == set(events.stores) - set(found["dropped_stores"])


def test_ages_and_sizes_part_the_events_and_the_stores(report: dict[str, Any]) -> None:
    assert [(of["from_days"], of["to_days"]) for of in report["by_age"]] == [(0, 7), (7, 28), (28, 90), (90, None)]
    parts = sum(np.array(of["events"]) for of in report["by_age"] if of["stores"] == 40)
    assert (parts <= np.array(report["metrics"]["click_through"]["events"])).all()
    sizes = report["by_size"]
    assert sizes["smaller"]["stores"] + sizes["larger"]["stores"] == report["metrics"]["click_through"]["stores"]
    assert sum(sizes["smaller"]["exposure"]) < sum(sizes["larger"]["exposure"])


def test_novelty_shows_among_young_items() -> None:
    """Treated items are younger, and young ones get twice the clicks: the lift is theirs, and gone among the old."""
    visits = Visits(stores=40, impressions=5_000, novelty=2.0, novelty_days=10, younger=0.7)
    found = analysed(events_of(table(visits, np.random.default_rng(1)), 1_800), Plan(BEFORE, draws=200))
    assert found["metrics"]["click_through"]["primary"]["low"] > 0.2
    assert found["by_age"][3]["primary"]["low"] < 0 < found["by_age"][3]["primary"]["high"]
    assert abs(found["adjusted"]["primary"]["value"]) < 0.2


def test_one_arm_is_no_comparison(events: Events) -> None:
    everything = table(Visits(stores=3), np.random.default_rng(0))
    control = everything.filter(pc.equal(everything.column("arm"), "control"))
    with pytest.raises(MeasurementError, match="one arm"):
        analysed(events_of(control, 0), PLAN)
