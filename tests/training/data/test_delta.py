"""A Delta table is read as a Parquet table is: by version, in the order of time, with errors that say what there is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from contract.feature_schema import FeatureSchema
from tests.training.data.test_table import GROUP
from training.data.columns import SCHEMA
from training.data.delta import (
    DeltaName,
    delta_name,
    delta_schema,
    load_delta,
    open_delta,
    pinned_delta,
    storage_options,
)
from training.data.table import Group, TableError, _to_row, check_data, count_rows, hash_table, is_table, read_table

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


def groups(*numbers: int) -> list[Group]:
    return [replace(GROUP, group_id=f"g{n}", create_time=BEGIN + timedelta(hours=n)) for n in numbers]


def add(table: Path, *numbers: int) -> None:
    write_deltalake(table, pa.Table.from_pylist([_to_row(g) for g in groups(*numbers)], schema=SCHEMA), mode="append")


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema) -> Path:
    """Version 0 has groups 5 and 2, version 1 group 3 as well."""
    folder = tmp_path / "groups"
    add(folder, 5, 2)
    schema.write(folder / "feature_schema.json")
    add(folder, 3)
    return folder


def ids(path: Path | str) -> list[str]:
    return [group.group_id for group in read_table(Path(path))]


def test_the_newest_version_is_read_or_the_named_one_in_the_order_of_time(table: Path) -> None:
    assert list(read_table(table)) == groups(2, 3, 5)
    assert ids(f"{table}@0") == ["g2", "g5"] and ids(f"{table}@1") == ["g2", "g3", "g5"]
    assert count_rows(Path(f"{table}@0")) == 2
    assert all(c.image is None for g in read_table(table, images=False) for c in g.candidates)


def test_a_command_reads_one_version_to_its_end(table: Path) -> None:
    pinned = check_data(table)
    assert str(pinned) == f"{table}@1" and is_table(pinned)
    add(table, 1)
    assert ids(pinned) == ["g2", "g3", "g5"] and ids(check_data(table)) == ["g1", "g2", "g3", "g5"]


def test_rows_without_a_time_come_first_and_rewritten_files_read_the_same(table: Path) -> None:
    row = _to_row(replace(GROUP, group_id="untimed", create_time=None))
    write_deltalake(table, pa.Table.from_pylist([row], schema=SCHEMA), mode="append")
    DeltaTable(table).delete("group_id = 'g3'")
    DeltaTable(table).optimize.compact()
    assert ids(table) == ["untimed", "g2", "g5"]


def test_a_version_that_is_not_there_yet_or_gone_names_the_newest(table: Path) -> None:
    with pytest.raises(TableError, match=f"no version 7 yet; the newest is {table}@1"):
        check_data(Path(f"{table}@7"))
    DeltaTable(table).delete("group_id = 'g5'")
    DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    newest = DeltaTable(table).version()
    with pytest.raises(TableError, match=f"version 0 of {table} is gone.*the newest is {table}@{newest}"):
        check_data(Path(f"{table}@0"))
    assert ids(table) == ["g2", "g3"]


def test_the_same_rows_hash_alike_in_whatever_version_and_files_they_are(table: Path) -> None:
    def hashed(path: Path | str) -> bytes:
        parts = list[bytes]()
        hash_table(Path(path), parts.append)
        return b"".join(parts)

    before = hashed(table)
    assert before != hashed(f"{table}@0")
    DeltaTable(table).optimize.compact()
    assert hashed(table) == before == hashed(f"{table}@1")


@pytest.mark.parametrize(("name", "why"), [("@x", "a number belongs behind @"), ("-not-there@3", "does not exist")])
def test_what_names_no_table_is_refused(table: Path, name: str, why: str) -> None:
    with pytest.raises(TableError, match=why):
        check_data(Path(f"{table}{name}"))


def test_a_parquet_table_has_no_versions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(TableError, match="no Delta table; leave @3 out"):
        check_data(tmp_path / "plain@3")


def test_a_table_without_a_feature_schema_or_of_other_columns_is_refused(table: Path, schema: FeatureSchema) -> None:
    (table / "feature_schema.json").unlink()
    with pytest.raises(TableError, match=r"feature_schema\.json"):
        check_data(table)
    other = table.with_name("other")
    write_deltalake(other, pa.table({"group_id": [1]}))
    schema.write(other / "feature_schema.json")
    with pytest.raises(TableError, match="other@0"):
        check_data(other)


def test_a_folder_that_ends_like_a_version_is_itself(tmp_path: Path) -> None:
    add(tmp_path / "groups@3", 1)
    assert delta_name(tmp_path / "groups@3") == DeltaName(str(tmp_path / "groups@3"))


@pytest.mark.parametrize("text", ["s3://bucket/lake/groups@12", "s3:/bucket/lake/groups@12"])
def test_a_place_in_s3_keeps_its_slashes_through_a_path(text: str) -> None:
    name = delta_name(Path(text))
    assert name == DeltaName("s3://bucket/lake/groups", 12) and name.name == "groups"


def test_the_keys_of_s3_come_from_amazons_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert storage_options("s3://bucket/lake") == {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true", "AWS_CONDITIONAL_PUT": "etag",
    }  # fmt: skip
    assert storage_options("build/lake") == {}


def test_a_place_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "r")):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for reads in (open_delta, delta_schema, pinned_delta, load_delta):
        with pytest.raises(TableError) as refused:
            reads(DeltaName("s3://bucket/lake/groups"))
        said = str(refused.value)
        assert "s3://bucket/lake/groups" in said and "\n" not in said and "has no" not in said, reads.__name__
        assert "cannot be read" in said
