"""Where viewers have an arm: who is compared, and what does not count."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.shop.events import redelivered
from lab.shop.viewers import Crowd, viewer_table
from tests.training.measurement.lift.shop_events import events
from training.measurement.errors import MeasurementError
from training.measurement.lift.events import CLICK, IMPRESSION, ORDER, events_of
from training.measurement.lift.metrics import Metric
from training.measurement.lift.viewer_events import read_viewer_events, viewer_events_of

WINDOW = 1_800
CLICK_THROUGH = Metric("click_through", CLICK, IMPRESSION)


def test_a_viewer_has_one_arm_with_all_they_did_in_whatever_store() -> None:
    rows: list[dict[str, Any]] = [
        {"viewer_hash": "v", "arm": "treatment"},
        {"viewer_hash": "v", "arm": "treatment", "item_id": "j", "user_id": "t"},
        {"viewer_hash": "v", "arm": "treatment", "kind": "click"},
        {"viewer_hash": "w", "arm": "control"},
        {"viewer_hash": "w", "arm": "control", "kind": "order"},
    ]
    found = viewer_events_of(events(*rows), WINDOW)
    counts = found.counted(CLICK_THROUGH)
    assert counts.treated.tolist() == [True, False]
    assert (counts.events.tolist(), counts.exposure.tolist()) == ([1, 0], [2, 1])
    per_viewer = found.per_viewer(ORDER)
    assert (per_viewer.events.tolist(), per_viewer.exposure.tolist()) == ([0, 1], [1, 1])
    on_none = Metric("click_through:elsewhere", CLICK, IMPRESSION, "elsewhere")
    assert found.counted(on_none).exposure.tolist() == [0, 0]


def test_who_had_no_impression_that_counts_is_not_compared_whatever_they_did() -> None:
    rows: list[dict[str, Any]] = [
        {"viewer_hash": "v"},
        {"viewer_hash": "v", "at": 60},  # within the window
        {"viewer_hash": "w", "kind": "order", "arm": "treatment"},
        {"viewer_hash": None},
    ]
    found = viewer_events_of(events(*rows), WINDOW)
    assert found.treated_of.tolist() == [False]
    assert found.dropped == {
        "without_viewer": 1, "without_arm": 0, "same_event_id": 0, "within_window": 1, "without_impression": 1,
    }  # fmt: skip


def test_arms_of_items_are_taken_for_no_arms_of_viewers_and_the_other_way_round() -> None:
    of_items = events({"item_id": "i", "arm": "control"}, {"item_id": "j", "arm": "treatment"})
    with pytest.raises(MeasurementError, match=r"viewer 'v' has more than one arm: .* plan without --unit viewer"):
        viewer_events_of(of_items, WINDOW)
    of_viewers = events({"viewer_hash": "v", "arm": "control"}, {"viewer_hash": "w", "arm": "treatment"})
    with pytest.raises(MeasurementError, match="item 'i' has more than one arm"):
        events_of(of_viewers, WINDOW)


def test_viewers_in_no_arm_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"viewer_hash": "v"}, {"viewer_hash": "w", "arm": None}, {"viewer_hash": "x"}]
    pq.write_table(events(*rows), tmp_path / "events.parquet")
    with pytest.raises(MeasurementError, match="viewer 'w': their arm is none"):
        read_viewer_events(tmp_path / "events.parquet", WINDOW)
    found = read_viewer_events(tmp_path / "events.parquet", WINDOW, others=False)
    assert (len(found.treated_of), found.dropped["without_arm"]) == (2, 1)
    pq.write_table(events(*rows).drop_columns(["arm"]), tmp_path / "armless.parquet")
    with pytest.raises(MeasurementError, match="give --arms FILE, which maps viewers to arms"):
        read_viewer_events(tmp_path / "armless.parquet", WINDOW)
    arms = {"v": "treatment", "w": "control", "x": "control"}
    assert read_viewer_events(tmp_path / "armless.parquet", WINDOW, arms).treated_of.tolist() == [True, False, False]


def test_what_is_delivered_again_or_in_another_order_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    table = viewer_table(Crowd(viewers=60), rng)
    again = redelivered(table, 0.2, rng)
    again = again.take(pa.array(rng.permutation(len(again))))
    first, second = viewer_events_of(table, WINDOW), viewer_events_of(again, WINDOW)
    assert second.dropped["same_event_id"] == len(again) - len(table) > 0
    for one, other in zip(_sums(first), _sums(second), strict=True):
        np.testing.assert_array_equal(one, other)


def _sums(found: Any) -> tuple[np.ndarray, ...]:
    counts = found.counted(CLICK_THROUGH)
    order = np.lexsort((counts.events, counts.exposure, counts.treated))
    return counts.treated[order], counts.exposure[order], counts.events[order]
