"""Every event counts once: by its id, and by viewer, item and surface within the window."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from tests.training.measurement.lift.shop_events import events
from training.measurement.errors import MeasurementError
from training.measurement.lift.events import CLICK, IMPRESSION, ORDER, events_of, read_arms, read_events

WINDOW = 1_800


def times(table: pa.Table, window_s: int = WINDOW) -> list[int]:
    """When the events that count were, in seconds from the first."""
    found = events_of(table, window_s)
    return [int(time) for time in (found.time_us - found.time_us[0]) // 1_000_000] if len(found.time_us) else []


def test_of_equal_event_ids_the_first_counts() -> None:
    found = events_of(events({"at": 9_000}, {"event_id": "e0", "at": 0, "kind": "order"}, {"event_id": "e0"}), WINDOW)
    assert found.kind.tolist() == [ORDER]
    assert found.dropped == {"same_event_id": 2, "within_window": 0, "without_arm": 0}


def test_a_repeated_impression_counts_when_the_last_that_counted_is_old_enough() -> None:
    """1,799 s later does not; then 1,800 s after the first does, though the one between is near."""
    assert times(events({"at": 0}, {"at": 1_799}, {"at": 1_800}, {"at": 1_900}, {"at": 3_600})) == [0, 1_800, 3_600]
    assert times(events({"at": 0}, {"at": 0}), window_s=0) == [0, 0]


@pytest.mark.parametrize(
    "other",
    [{"viewer_hash": "w"}, {"item_id": "j"}, {"surface": "recommendation"}, {"surface": None}, {"kind": "click"}],
)
def test_another_viewer_item_surface_or_kind_counts(other: dict[str, Any]) -> None:
    assert times(events({"at": 0}, {"at": 1, **other})) == [0, 1]


def test_unknown_viewers_orders_and_returns_are_told_apart_by_id_alone() -> None:
    rows: list[dict[str, Any]] = [{"viewer_hash": None}, {"kind": "order"}, {"kind": "return"}]
    for row in rows:
        assert times(events({"at": 0, **row}, {"at": 1, **row})) == [0, 1]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(0, 20))
def test_the_window_is_what_walking_through_the_events_says(seconds: list[int], window_s: int) -> None:
    kept: list[int] = []
    for second in sorted(seconds):
        if not kept or second - kept[-1] >= window_s:
            kept.append(second)
    assert times(events(*({"at": second} for second in seconds)), window_s) == [s - min(seconds) for s in kept]


def test_columns_become_arrays() -> None:
    found = events_of(
        events(
            {"item_id": "a", "user_id": "x", "arm": "treatment", "position": 3},
            {"item_id": "b", "kind": "click", "surface": None, "position": None},
            {"item_id": "a", "user_id": "x", "arm": "treatment", "kind": "order", "units": 4},
        ),
        WINDOW,
    )
    assert found.kind.tolist() == [IMPRESSION, CLICK, ORDER]
    assert [found.items[n] for n in found.item] == ["a", "b", "a"]
    assert [found.stores[n] for n in found.store_of[found.item]] == ["x", "s", "x"]
    assert found.treated_of[found.item].tolist() == [True, False, True]
    assert found.surface[1] == found.position[1] == -1
    assert found.units.tolist() == [1, 1, 4]
    assert found.age_days == pytest.approx([10, 10 + 1 / 24, 10 + 2 / 24])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{}, {"user_id": "t"}], "'i' has more than one user_id"),
        ([{}, {"arm": "treatment"}], "'i' has more than one arm"),
        ([{"arm": "b"}], "its arm is b"),
        ([{"arm": None}], "its arm is null"),
        ([{"kind": "view"}], "got 'view'"),
        ([{"item_id": None}], "item_id is null in 1 events"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        events_of(events(*rows), WINDOW)


def test_items_that_are_in_no_arm_may_be_left_out_and_are_counted() -> None:
    table = events({}, {"event_id": "2", "item_id": "j", "arm": None}, {"event_id": "3", "item_id": "j", "arm": None})
    found = events_of(table, WINDOW, others=False)
    assert found.items == ["i"] and found.dropped["without_arm"] == 2
    found = events_of(table, WINDOW, {"j": "control"}, others=False)
    assert found.items == ["j"] and found.dropped["without_arm"] == 1
    with pytest.raises(MeasurementError, match="more than one arm"):
        events_of(events({}, {"event_id": "2", "arm": None}), WINDOW, others=False)


@pytest.mark.parametrize("kind", ["file", "folder", "delta", "version"])
def test_events_come_from_parquet_and_from_delta_tables(tmp_path: Path, kind: str) -> None:
    table, path = events({}, {"kind": "click"}), tmp_path / "events"
    if kind == "file":
        pq.write_table(table, path)
    elif kind == "folder":
        path.mkdir()
        pq.write_table(table.slice(0, 1), path / "1.parquet")
        pq.write_table(table.slice(1), path / "2.parquet")
    else:
        write_deltalake(str(path), table)
        if kind == "version":
            write_deltalake(str(path), events({"event_id": "later"}), mode="append")
            path = tmp_path / "events@0"
    assert read_events(path, WINDOW).kind.tolist() == [IMPRESSION, CLICK]


def test_arms_may_come_from_a_file(tmp_path: Path) -> None:
    pq.write_table(events({}, {"item_id": "j"}).drop_columns("arm"), tmp_path / "events")
    with pytest.raises(MeasurementError, match="lacks the column arm; give --arms"):
        read_events(tmp_path / "events", WINDOW)
    (tmp_path / "arms.json").write_text('{"i": "treatment", "j": "control", "never shown": "control"}')
    pq.write_table(pa.table({"item_id": ["i"], "arm": ["treatment"]}), tmp_path / "arms.parquet")
    found = read_events(tmp_path / "events", WINDOW, read_arms(tmp_path / "arms.json"))
    assert dict(zip(found.items, found.treated_of.tolist(), strict=True)) == {"i": True, "j": False}
    with pytest.raises(MeasurementError, match="item 'j': its arm is missing"):
        read_events(tmp_path / "events", WINDOW, read_arms(tmp_path / "arms.parquet"))
    (tmp_path / "arms.json").write_text('{"i": "blue"}')
    with pytest.raises(MeasurementError, match="got 'blue'"):
        read_arms(tmp_path / "arms.json")


def test_a_table_without_a_column_or_none_at_all_is_refused(tmp_path: Path) -> None:
    pq.write_table(events({}).drop_columns(["surface", "units"]), tmp_path / "events")
    with pytest.raises(MeasurementError, match="lacks the column surface, units"):
        read_events(tmp_path / "events", WINDOW)
    with pytest.raises(MeasurementError, match="cannot be read"):
        read_events(tmp_path / "nothing", WINDOW)
