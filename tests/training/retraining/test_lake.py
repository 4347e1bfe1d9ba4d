"""Tables are made once, commits carry offsets, and what stands in the way is said in one line."""

from pathlib import Path

import pytest

from contract.errors import FeatureError
from training.data.delta import DeltaName, delta_schema
from training.retraining.lake import EVENTS_SCHEMA, Lake, LakeError, Raced, append

SCHEMA = Path("training/weights/tiny/feature_schema.json").absolute()
ROW = dict.fromkeys(EVENTS_SCHEMA.names)


def test_rows_and_offsets_go_in_together_or_not_at_all(place: str) -> None:
    lake = Lake(place)
    first, second = lake.open("events"), lake.open("events")
    append(first, [ROW], EVENTS_SCHEMA, {"a": 1, "b": 7})
    for moved in ({"a": 1}, {"b": 8}):
        with pytest.raises(Raced):
            append(second, [ROW], EVENTS_SCHEMA, moved)
    append(first, [ROW], EVENTS_SCHEMA, {"a": 2})
    found = lake.open("events")
    assert found.to_pyarrow_table().num_rows == 2
    assert (found.transaction_version("a"), found.transaction_version("b")) == (2, 7)


def test_an_empty_batch_moves_offsets_too(place: str) -> None:
    table = Lake(place).open("events")
    append(table, [], EVENTS_SCHEMA, {"a": 3})
    assert Lake(place).open("events").transaction_version("a") == 3


def test_the_log_holds_no_names(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).open("events")
    append(table, [ROW | {"user_id": "store-1", "group_id": "group-1", "offset": 4}], EVENTS_SCHEMA, {"a": 1})
    logs = [path.read_text() for path in (tmp_path / "events" / "_delta_log").glob("*.json")]
    assert '\\"offset\\":4' in "".join(logs) and not any("store-1" in log or "group-1" in log for log in logs)


def test_groups_need_a_feature_schema_once(place: str, tmp_path: Path) -> None:
    lake = Lake(place)
    with pytest.raises(LakeError, match="give --feature-schema"):
        lake.set_feature_schema(None)
    with pytest.raises(FeatureError):
        lake.set_feature_schema(tmp_path / "absent.json")
    lake.set_feature_schema(SCHEMA)
    lake.set_feature_schema(None)
    assert delta_schema(DeltaName(lake.location("groups"))).features


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="file/events"):
        Lake(str(tmp_path / "file")).open("events")
