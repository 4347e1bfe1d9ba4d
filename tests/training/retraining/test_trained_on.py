"""What a family was trained on outlives its table's version, and names no merchant."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InputError
from contract.feature_schema import FeatureSchema
from tests.training.retraining.lake import BEGAN, mixed_row, write_lake
from training.data.table import read_table
from training.retraining.hold_out import Size, split
from training.retraining.trained_on import FILE, TrainedOn, record_of, trained_on

ON_TRIAL, PICKED = (True, False, True), (False, True, False)


@pytest.fixture
def family(tmp_path: Path, schema: FeatureSchema) -> Callable[..., Path]:
    """A family trained on version 0 of a lake with ten groups, which has grown since."""
    lake = tmp_path / "lake"
    write_lake(lake, [mixed_row(n, f"m{n % 3}", ON_TRIAL, PICKED) for n in range(10)], schema)
    write_lake(lake, [mixed_row(n, "m0", ON_TRIAL, PICKED) for n in range(10, 20)], schema)

    def trained(**changes: Any) -> Path:
        record = {"table": str(lake), "table_version": 0, "hold_out": {"groups": ["g00009", "g00008"]}, "surplus": {}}
        root = tmp_path / "run" / "family"
        root.mkdir(parents=True, exist_ok=True)
        (root / "retraining.json").write_text(json.dumps(record | changes))
        return root

    return trained


def test_what_a_family_was_trained_on_is_read_from_its_version_of_the_table(
    family: Callable[..., Path], tmp_path: Path
) -> None:
    root = family()
    found = trained_on(root)
    assert found is not None and found.group_ids == {f"g{n:05d}" for n in range(8)}
    assert found.until == BEGAN + timedelta(minutes=7) and found.knows("m0") and not found.knows("m7")
    (root / "retraining.json").rename(tmp_path / "run" / "retraining.json")  # beside it is as good
    assert record_of(root) == tmp_path / "run" / "retraining.json" and trained_on(root) == found
    held_out = split(list(read_table(tmp_path / "lake")), found, None, Size()).held_out
    assert [group.group_id for group in held_out] == [f"g{n:05d}" for n in range(8, 20)]
    assert trained_on(tmp_path) is None


def test_the_file_beside_the_record_needs_no_table(family: Callable[..., Path], tmp_path: Path) -> None:
    root, groups = family(), list(read_table(tmp_path / "lake"))
    learnt = TrainedOn.of(groups[:5], groups[10:], salt="pepper")
    learnt.write(root)
    content = (root / FILE).read_bytes()
    shutil.rmtree(tmp_path / "lake")
    assert trained_on(root) == learnt and learnt.knows("m0") and learnt.knows("m1") and not learnt.knows("m9")
    assert b"m0" not in content and len(learnt.merchants) == 3
    TrainedOn.of(groups[4::-1], groups[10:], salt="pepper").write(root)
    assert (root / FILE).read_bytes() == content
    TrainedOn().write(root)
    assert trained_on(root) == TrainedOn()


def test_groups_of_the_surplus_count_as_trained_on_where_only_the_version_is_known(
    family: Callable[..., Path],
) -> None:
    found = trained_on(family(surplus={"somebody": 2}))
    assert found is not None and len(found.group_ids) == 8


@pytest.mark.parametrize("content", ["", "{}", '{"until": 3, "groups": [], "salt": "", "merchants": []}'])
def test_a_damaged_file_is_refused(family: Callable[..., Path], content: str) -> None:
    root = family()
    (root / FILE).write_text(content)
    with pytest.raises(InputError, match=FILE):
        trained_on(root)


@pytest.mark.parametrize("changes", [{"table": None}, {"hold_out": 3}, {"table_version": 9}])
def test_a_record_that_does_not_say_what_was_trained_on_is_refused(
    family: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        trained_on(family(**changes))
