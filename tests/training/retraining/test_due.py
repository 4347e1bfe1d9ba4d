"""When a retraining is due: by new groups or by time, against what the last one had."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.feature_schema import FeatureSchema
from tests.training.retraining.shops import shown, table
from training.common.errors import ModelError
from training.retraining.due import Due, due

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def groups(tmp_path: Path, schema: FeatureSchema) -> Path:
    return table(tmp_path / "groups", shown(12, "g", candidates=2), schema)


@pytest.fixture
def last(tmp_path: Path) -> Path:
    record = {"state": "finished", "rows": 9, "began": "2026-01-02T09:00:00+00:00"}
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "retraining.json").write_text(json.dumps(record))
    return tmp_path / "last"


@pytest.mark.parametrize(
    ("min_new", "every_h", "why"),
    [
        (None, None, None),
        (3, None, None),
        (4, None, "3 of 4 new groups"),
        (None, 3, None),
        (None, 4, "3.0 of 4 hours"),
        (4, 3, None),
        (4, 4, "3.0 of 4 hours, 3 of 4 new groups"),
    ],
)
def test_either_count_or_time_is_enough(
    groups: Path, last: Path, min_new: int | None, every_h: float | None, why: str | None
) -> None:
    assert due(groups, Due(min_new, every_h, last), NOW) == why


def test_without_a_finished_one_before_all_groups_are_new(groups: Path, last: Path, tmp_path: Path) -> None:
    (last / "retraining.json").write_text(json.dumps({"state": "failed", "rows": 12}))
    for before in (None, last, tmp_path / "absent"):
        assert due(groups, Due(12, None, before), NOW) is None
        assert due(groups, Due(13, None, before), NOW) == "12 of 13 new groups"
        assert due(groups, Due(13, 24, before), NOW) is None


def test_a_damaged_record_is_named(groups: Path, last: Path) -> None:
    (last / "retraining.json").write_text("{")
    with pytest.raises(ModelError, match=r"retraining\.json cannot be read"):
        due(groups, Due(3, None, last), NOW)
