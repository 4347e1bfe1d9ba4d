"""The Parquet format of groups: what survives it, and what is not a table."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.feature_schema import FeatureSchema
from training.data import table
from training.data.table import Candidate, Group, TableError, count_rows, read_table, write_table

GROUP = Group(
    "g1", "merchant-1", "dress,v-neck",
    (Candidate("a", True, image=b"png"), Candidate("b", False, uri="file:///pictures/b.png")),
    {"style": "luxury", "audience": ["teen"], "years_open": 3.5},
    "feedback", datetime(2026, 1, 2, tzinfo=UTC), 7,
)  # fmt: skip


def groups(count: int) -> Iterator[Group]:
    return (Group(f"g{n}", "u", "dress", GROUP.candidates) for n in range(count))


def test_a_group_survives_its_row(tmp_path: Path, schema: FeatureSchema) -> None:
    assert write_table(tmp_path, [GROUP], schema) == 1
    assert list(read_table(tmp_path)) == [GROUP]
    assert table.read_schema(tmp_path) == schema


def test_pictures_are_left_on_disk_when_nobody_asks_for_them(tmp_path: Path, schema: FeatureSchema) -> None:
    write_table(tmp_path, [GROUP], schema)
    (read,) = read_table(tmp_path, images=False)
    assert [(c.image, c.uri, c.selected) for c in read.candidates] == [
        (None, None, True),
        (None, "file:///pictures/b.png", False),
    ]


def test_rows_come_back_in_order_over_several_files(
    tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ROWS_PER_FILE", 100)
    write_table(tmp_path, groups(250), schema)
    assert [path.name for path in table.files(tmp_path)] == [f"groups-{n:05d}.parquet" for n in range(3)]
    assert [group.group_id for group in read_table(tmp_path)] == [f"g{n}" for n in range(250)]
    assert count_rows(tmp_path) == 250


def test_a_table_is_not_written_over(tmp_path: Path, schema: FeatureSchema) -> None:
    write_table(tmp_path, [GROUP], schema)
    with pytest.raises(TableError, match="holds a table already"):
        write_table(tmp_path, [GROUP], schema)


def test_a_number_that_is_none_reads_as_unknown(tmp_path: Path, schema: FeatureSchema) -> None:
    write_table(tmp_path, [Group("g", "u", "dress", GROUP.candidates, {"years_open": float("nan")})], schema)
    assert next(read_table(tmp_path)).features == {"years_open": None}


def test_a_writer_that_prefers_wide_types_is_understood(tmp_path: Path, schema: FeatureSchema) -> None:
    write_table(tmp_path, [GROUP], schema)
    path = tmp_path / "groups-00000.parquet"
    wide = [pa.field(f.name, pa.large_string() if f.type == pa.string() else f.type) for f in table.SCHEMA]
    pq.write_table(pq.read_table(path).cast(pa.schema(wide)), path)
    assert list(read_table(tmp_path)) == [GROUP]


def test_what_is_no_table_is_refused_by_name(tmp_path: Path, schema: FeatureSchema) -> None:
    with pytest.raises(TableError, match=r"no groups-\*\.parquet"):
        next(read_table(tmp_path))
    write_table(tmp_path, [GROUP], schema)
    path = tmp_path / "groups-00000.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["prompt"]), path)
    with pytest.raises(TableError, match=r"groups-00000\.parquet: no column 'prompt'"):
        next(read_table(tmp_path))
    pq.write_table(whole.set_column(1, "user_id", pa.array([5])), path)
    with pytest.raises(TableError, match="user_id is int64, expected string"):
        next(read_table(tmp_path))
    pq.write_table(whole, path)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)  # the first pages; the footer is whole
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"groups-00000\.parquet cannot be read"):
        list(read_table(tmp_path))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(TableError, match="is not Parquet"):
        next(read_table(tmp_path))


def test_features_that_are_no_object_are_refused_by_row(tmp_path: Path, schema: FeatureSchema) -> None:
    write_table(tmp_path, groups(3), schema)
    path = tmp_path / "groups-00000.parquet"
    whole = pq.read_table(path)
    broken = whole.set_column(3, "features", pa.array(["{}", "[1]", "{"]))
    pq.write_table(broken, path)
    with pytest.raises(TableError, match="row 1: features is not a JSON object"):
        list(read_table(tmp_path))
