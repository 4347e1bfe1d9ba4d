"""Groups as Parquet: the one format for all data.

A table is a directory of `groups-*.parquet` with a `feature_schema.json` beside them. One row is
one group: the candidates that a merchant was shown for a prompt, and the picks.

    group_id     string   unique in the table
    user_id      string
    prompt       string   phrases joined by commas
    features     string   the merchant's profile as a JSON object: feature name → word, list of words, or number
    candidates   list of
      image_id   string
      image      binary   PNG or JPEG; null if `uri` says where it lies
      uri        string   file://… or what fsspec reads; null if `image` holds it
      selected   bool     ties are all selected
    origin       string   where the row is from: market, feedback, pickapic, …
    create_time  timestamp (UTC, milliseconds); null if unknown
    release      int64    the release that generated the candidates; null if none did

Knows the format; nothing about pixels, tokens or models.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contract.feature_schema import FeatureSchema
from training.common.errors import ModelError, reading

ROWS_PER_FILE = 10_000
_BATCH = 64  # rows held at once while reading or writing
_CANDIDATE = pa.struct([
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image", pa.binary()),
    pa.field("uri", pa.string()),
    pa.field("selected", pa.bool_(), nullable=False),
])  # fmt: skip
SCHEMA = pa.schema([
    pa.field("group_id", pa.string(), nullable=False),
    pa.field("user_id", pa.string(), nullable=False),
    pa.field("prompt", pa.string(), nullable=False),
    pa.field("features", pa.string(), nullable=False),
    pa.field("candidates", pa.list_(_CANDIDATE), nullable=False),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("create_time", pa.timestamp("ms", tz="UTC")),
    pa.field("release", pa.int64()),
])  # fmt: skip


class TableError(ModelError):
    """The directory is not a valid table; the message names the file, row and column."""


@dataclass(frozen=True)
class Candidate:
    """One picture of a group: its bytes, or where they lie."""

    image_id: str
    selected: bool
    image: bytes | None = None
    uri: str | None = None


@dataclass(frozen=True)
class Group:
    """One row."""

    group_id: str
    user_id: str
    prompt: str
    candidates: tuple[Candidate, ...]
    features: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "unknown"
    create_time: datetime | None = None
    release: int | None = None


def write_table(directory: Path, groups: Iterable[Group], schema: FeatureSchema) -> int:
    """Writes a new table, a bounded number of rows in memory at once; returns how many.

    Raises:
        TableError: the directory holds a table already.
    """
    if any(directory.glob("groups-*.parquet")):
        raise TableError(f"{directory} holds a table already")
    directory.mkdir(parents=True, exist_ok=True)
    writer, count, rows = None, 0, list[dict[str, Any]]()
    try:
        for group in groups:
            if count % ROWS_PER_FILE == 0:
                writer = _next_file(directory, writer, rows, count)
            rows.append(_to_row(group))
            count += 1
            if len(rows) == _BATCH:
                _flush(writer, rows)
    finally:
        _next_file(directory, writer, rows, None)
    schema.write(directory / "feature_schema.json")  # last: it says that the table is whole
    return count


def read_table(directory: Path, *, images: bool = True) -> Iterator[Group]:
    """The rows in order; without `images`, every candidate's bytes are None.

    Raises:
        TableError: a file is missing, unreadable or of another schema, or a value is out of form.
    """
    for path in files(directory):
        for number, row in enumerate(_rows(path, images)):
            yield _from_row(row, f"{path.name}, row {number}")


def files(directory: Path) -> list[Path]:
    """The table's files in order, each checked against the format."""
    paths = sorted(directory.glob("groups-*.parquet"))
    if not paths or not (directory / "feature_schema.json").is_file():
        missing = "feature_schema.json" if paths else "groups-*.parquet"
        raise TableError(f"{directory} is not a table of groups: no {missing}")
    for path in paths:
        _check(path)
    return paths


def count_rows(directory: Path) -> int:
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files(directory))


def read_schema(directory: Path) -> FeatureSchema:
    return FeatureSchema.read(directory / "feature_schema.json")


# ---- rows ------------------------------------------------------------------------------------


def _to_row(group: Group) -> dict[str, Any]:
    candidates = [
        {"image_id": c.image_id, "image": c.image, "uri": c.uri, "selected": c.selected} for c in group.candidates
    ]
    return {
        "group_id": group.group_id, "user_id": group.user_id, "prompt": group.prompt,
        "features": json.dumps(group.features, sort_keys=True), "candidates": candidates,
        "origin": group.origin, "create_time": group.create_time, "release": group.release,
    }  # fmt: skip


def _from_row(row: Mapping[str, Any], where: str) -> Group:
    for name in ("group_id", "user_id", "prompt", "features", "candidates"):
        if row[name] is None:
            raise TableError(f"{where}: {name} is null")
    return Group(
        group_id=row["group_id"], user_id=row["user_id"], prompt=row["prompt"],
        candidates=tuple(_candidate(entry, where) for entry in row["candidates"]),
        features=_features(row["features"], where),
        origin=row["origin"] or "unknown", create_time=row["create_time"], release=row["release"],
    )  # fmt: skip


def _candidate(entry: Mapping[str, Any] | None, where: str) -> Candidate:
    if entry is None or entry["image_id"] is None or entry["selected"] is None:
        raise TableError(f"{where}: a candidate without image_id or selected")
    return Candidate(entry["image_id"], bool(entry["selected"]), entry.get("image"), entry["uri"])


def _features(text: str, where: str) -> dict[str, Any]:
    """A number that is not finite (NaN, infinity) becomes the unknown value, as a missing one does."""
    try:
        features = json.loads(text)
    except ValueError as error:
        raise TableError(f"{where}: features is not JSON: {error}") from error
    if not isinstance(features, dict):
        raise TableError(f"{where}: features is not a JSON object")
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in features.items()}


# ---- files -----------------------------------------------------------------------------------


def _next_file(
    directory: Path, writer: pq.ParquetWriter | None, rows: list[dict[str, Any]], count: int | None
) -> pq.ParquetWriter | None:
    """Closes a file and opens the next; `count` None opens none."""
    if writer is not None:
        _flush(writer, rows)
        writer.close()
    if count is None:
        return None
    return pq.ParquetWriter(directory / f"groups-{count // ROWS_PER_FILE:05d}.parquet", SCHEMA, compression="zstd")


def _flush(writer: pq.ParquetWriter | None, rows: list[dict[str, Any]]) -> None:
    if writer is not None and rows:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        rows.clear()


def _check(path: Path) -> None:
    try:
        found = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path.name} is not Parquet: {error}") from error
    for wanted in SCHEMA:
        if wanted.name not in found.names:
            raise TableError(f"{path.name}: no column {wanted.name!r}")
        if not _fits(found.field(wanted.name).type, wanted.type):
            raise TableError(f"{path.name}: {wanted.name} is {found.field(wanted.name).type}, expected {wanted.type}")


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal up to the widths that writers choose (large_string for string) and times' units."""
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _fits(found.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        names = {f.name: f.type for f in found} if pa.types.is_struct(found) else {}
        return all(f.name in names and _fits(names[f.name], f.type) for f in wanted)
    if pa.types.is_timestamp(wanted):
        return any(kind(found) for kind in (pa.types.is_timestamp, pa.types.is_null))
    if pa.types.is_string(wanted):
        return any(kind(found) for kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null))
    if pa.types.is_binary(wanted):
        return any(kind(found) for kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null))
    if pa.types.is_integer(wanted):
        return any(kind(found) for kind in (pa.types.is_integer, pa.types.is_null))
    return bool(found == wanted)


def _rows(path: Path, images: bool) -> Iterator[dict[str, Any]]:
    columns = [name for name in SCHEMA.names if name != "candidates"]
    parts = ["image_id", "uri", "selected", *(["image"] if images else [])]
    with reading(path, TableError), pq.ParquetFile(path) as file:
        element = _element_name(path)
        wanted = [*columns, *(f"candidates.{element}.{part}" for part in parts)]
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            yield from batch.to_pylist()


def _element_name(path: Path) -> str:
    """Parquet writers call a list's elements `list.element` or, older ones, `list.item`."""
    with pq.ParquetFile(path) as file:
        names = [str(file.schema.column(i).path) for i in range(len(file.schema))]
    inside = [name.removeprefix("candidates.") for name in names if name.startswith("candidates.")]
    return next(name.removesuffix(".image_id") for name in inside if name.endswith(".image_id"))
