"""An erased merchant is in no version of any table that can be read, and in no file of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.s3 import S3
from tests.training.retraining.events import group, pick, shop, uuid
from tests.training.retraining.test_collecting import Collecting
from training.data.table import TableError, read_table
from training.retraining import erasing
from training.retraining.erasing import erase
from training.retraining.lake import LakeError
from training.retraining.upkeep import compact

SCHEMA = Path("training/weights/tiny/feature_schema.json")


@pytest.fixture
def of(tmp_path: Path) -> Collecting:
    return three_merchants(tmp_path / "lake")


def three_merchants(folder: Path | str) -> Collecting:
    """With a group and a pick each, in versions of their own; the third one corrects."""
    found = Collecting(folder)
    found.lake.set_feature_schema(SCHEMA)
    for n, user_id in enumerate(("first", "gone", "third")):
        found.log.put(group(user_id, user_id), pick(user_id, n, user_id=user_id))
        found.log.put(shop(user_id, "order", n, 1, user_id=user_id))
        found.collect()
    found.log.put(pick("third", 0, sequence=2, user_id="third"))
    found.collect()
    for name in ("events", "shop"):
        compact(found.lake.open(name), fewest=2)
    return found


def groups_of(of: Collecting, version: int) -> set[str]:
    return {row.user_id for row in read_table(Path(f"{of.lake.location('groups')}@{version}"))}


def test_no_readable_version_and_no_file_has_the_merchant(of: Collecting) -> None:
    versions = {v: groups_of(of, v) for v in range(of.lake.open("groups").version() + 1)}
    done = erase(of.lake, "gone")
    assert (done["events"], done["groups"], done["shop"], done["rows_left"]) == (2, 1, 1, 0) and done["files"] >= 3
    for version, users in versions.items():
        if "gone" in users:
            with pytest.raises(TableError, match="is gone"):
                groups_of(of, version)
        else:
            assert groups_of(of, version) == users  # from before their first pick
    folder = Path(of.lake.uri)
    for file in folder.rglob("*.parquet"):
        assert "gone" not in str(pq.read_table(file).to_pylist())
    for log in folder.rglob("*.json"):
        assert "gone" not in log.read_text()
    assert of.rows().keys() == {uuid("first"), uuid("third")} and len(of.events()) == 5


def test_it_is_written_down_without_a_name_and_may_be_done_again(of: Collecting) -> None:
    erase(of.lake, "gone")
    again = erase(of.lake, "gone")
    assert set(again.values()) == {0}
    audit = of.lake.open("erasures").to_pyarrow_table().sort_by("erasure_time").to_pylist()
    assert [json.loads(row["report"])["state"] for row in audit] == ["begun", "done", "begun", "done"]
    assert len({row["user_hash"] for row in audit}) == 1 and json.loads(audit[1]["report"])["groups"] == 1


def test_nothing_in_a_bucket_has_the_merchant(s3: S3) -> None:
    bucket = s3.new_bucket()
    of = three_merchants(f"{bucket}/lake")
    before = groups_of(of, 0), of.lake.open("groups").version()
    done = erase(of.lake, "gone")
    assert (done["events"], done["groups"], done["shop"], done["rows_left"]) == (2, 1, 1, 0) and done["files"] >= 3
    for key, content in s3.objects(bucket).items():
        rows = pq.read_table(pa.BufferReader(content)).to_pylist() if key.endswith(".parquet") else content
        assert "gone" not in str(rows), key
    assert groups_of(of, 0) == before[0]
    with pytest.raises(TableError, match="is gone"):
        groups_of(of, before[1])
    assert of.rows().keys() == {uuid("first"), uuid("third")} and len(of.events()) == 5


def test_what_a_killed_process_left_behind_goes_too(of: Collecting) -> None:
    folder = Path(of.lake.location("groups"))
    left = folder / "part-00000-left.parquet"
    rows = of.lake.open("groups").to_pyarrow_table()
    pq.write_table(rows, left)
    (folder / "part-00000-unfinished.parquet").write_bytes(b"PAR1")
    erase(of.lake, "gone")
    assert not left.exists()


def test_offsets_stay_and_collecting_goes_on(of: Collecting) -> None:
    erase(of.lake, "gone")
    of.log.put(group("new", "first"), pick("new", 1, user_id="first"))
    of.collect()
    assert (of.selected("new"), of.counts.repeated, of.counts.erased) == ([1], 0, 0)


def test_a_merchant_of_whom_nothing_is_known_yet_is_dropped_later(of: Collecting) -> None:
    assert erase(of.lake, "unknown")["events"] == 0
    of.log.put(group("late", "unknown"))
    of.collect()
    assert of.counts.erased == 1


def test_others_that_write_all_the_time_are_outlasted(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "_PAUSE_S", 0.0)
    carrying, times = erasing.carrying, 3

    def raced(transactions: dict[str, int]) -> object:
        nonlocal times
        if times:
            times -= 1
            of.log.put(group(f"racing {times}", "gone"))
            collector = of.open()
            collector._erased = type(collector._erased)("", frozenset(), 0)  # it read the table before the erasure
            of.collect(collector)
        return carrying(transactions)

    monkeypatch.setattr(erasing, "carrying", raced)
    done = erase(of.lake, "gone")
    assert times == 0 and done["rows_left"] == 0 and done["events"] == 5


def test_rows_that_are_left_are_an_error(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "_delete", lambda *_: 0)
    with pytest.raises(LakeError, match="rows are left"):
        erase(of.lake, "gone")


def test_a_file_that_cannot_be_read_is_an_error_and_not_an_empty_one(
    of: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("permission denied")

    monkeypatch.setattr(erasing.pq, "read_table", refused)
    with pytest.raises(LakeError, match=r"parquet cannot be read: permission denied; run it again"):
        erase(of.lake, "gone")
    monkeypatch.undo()
    audit = of.lake.open("erasures").to_pyarrow_table().column("report").to_pylist()
    assert [json.loads(report)["state"] for report in audit] == ["begun"]
    assert erase(of.lake, "gone")["rows_left"] == 0


def test_prepared_tables_with_the_merchant_go_and_others_stay(of: Collecting, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    for name, users in (("with", ["first", "gone"]), ("without", ["first"])):
        (prepared / name).mkdir(parents=True)
        np.save(prepared / name / "user_ids.npy", np.array(users))
    (prepared / "latents-1.npy").write_bytes(b"")
    assert erase(of.lake, "gone", prepared)["prepared"] == 1
    assert [path.name for path in prepared.iterdir()] == ["without"]
