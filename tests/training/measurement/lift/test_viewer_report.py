"""The report by viewers says whatever may be wrong, and refuses what is no comparison."""

import numpy as np
import pytest

from lab.shop.viewers import Crowd, viewer_table
from tests.training.measurement.lift.shop_events import events
from training.measurement.errors import MeasurementError
from training.measurement.lift.plan import Plan
from training.measurement.lift.viewer_events import viewer_events_of
from training.measurement.lift.viewer_report import PER_VIEWER, analysed_by_viewer

PLAN = Plan("2026-01-01T00:00:00+00:00", unit="viewer", treated_share=0.5)


def test_a_fair_experiment_has_every_metric_and_says_where_viewers_are_few() -> None:
    found = viewer_events_of(viewer_table(Crowd(viewers=1_200), np.random.default_rng(1)), PLAN.window_s)
    report = analysed_by_viewer(found, PLAN)
    [few] = report["warnings"]  # of those who clicked, and of those who ordered
    assert few.endswith("too high: conversion, return_rate.")
    surfaces = [f"click_through:{name}" for name in PLAN.surfaces]
    rest = ["conversion", "orders_per_impression", "return_rate", PER_VIEWER]
    assert list(report["metrics"]) == ["click_through", *surfaces, *rest]
    arms = report["events"]["arms"].values()
    assert report["metrics"]["click_through"]["exposure"] == [arm["impression"] for arm in arms]
    assert report["metrics"][PER_VIEWER]["events"] == [arm["order"] for arm in arms]
    lift = report["metrics"][PER_VIEWER]["lift"]
    assert lift["low"] < 0 < lift["high"]


def test_everything_that_is_off_is_said() -> None:
    table = viewer_table(Crowd(viewers=300, treated=0.2), np.random.default_rng(2))
    column = table["viewer_hash"].to_pylist()
    table = table.set_column(table.schema.get_field_index("viewer_hash"), "viewer_hash", [[None, *column[1:]]])
    late = Plan("2026-12-01T00:00:00+00:00", unit="viewer", treated_share=0.5)
    ratio, before, nobody, few = analysed_by_viewer(viewer_events_of(table, late.window_s), late)["warnings"]
    assert ratio.startswith("Sample ratio mismatch") and "50.0%" in ratio
    assert "plan was made after" in before and "1 events are nobody's" in nobody and "click_through" in few
    chosen = Plan("2026-01-01T00:00:00+00:00", unit="viewer")
    assert "observational" in analysed_by_viewer(viewer_events_of(table, 0), chosen)["warnings"][0]


def test_one_arm_is_no_comparison() -> None:
    with pytest.raises(MeasurementError, match="all 1 viewers are in one arm"):
        analysed_by_viewer(viewer_events_of(events({}), 0), PLAN)
