"""Groups as Parquet: the one format for all data.

A table is a directory of `groups-*.parquet` with a `feature_schema.json` beside them, or a Delta table of the same
columns, named with or without a version (training.data.delta). One row is one group: the candidates that a merchant
was shown for a prompt, and the picks.

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

A file may lack the last three columns, and `image` or `uri`; it may have others, which nothing reads.
`python -m training.data.check_table` lists everything that is wrong with a table.
Knows the format; nothing about pixels, tokens or models.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contract.errors import FeatureError
from contract.feature_schema import FeatureSchema
from training.common.errors import reading
from training.data.columns import CHECK as CHECK
from training.data.columns import OPTIONAL, SCHEMA, columns_checked
from training.data.columns import TableError as TableError
from training.data.delta import count_delta_rows, delta_name, delta_rows, delta_schema, pinned_delta, why_no_delta

ROWS_PER_FILE = 10_000
FORM = "a table is a folder of groups-*.parquet with feature_schema.json beside them, or a Delta table"
_BATCH = 64  # rows held at once while reading or writing


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
    for where, row in read_rows(directory, images=images):
        if problems := row_problems(row):
            column, what = problems[0]
            raise TableError(f"{where}: {column} {what}; {CHECK} {directory} lists every row")
        yield _from_row(row)


def read_rows(directory: Path, *, images: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows as they are, with where each stands."""
    if name := delta_name(directory):
        for number, row in enumerate(delta_rows(name, images)):
            yield f"{name}, row {number}", row
        return
    for path in files(directory):
        for number, row in enumerate(rows_of(path, images)):
            yield f"{path.name}, row {number}", row


def files(directory: Path) -> list[Path]:
    """The Parquet table's files in order, each checked against the format.

    Raises:
        TableError: not a table, or a file has other columns.
    """
    if why := why_no_table(directory):
        raise TableError(why)
    paths = sorted(directory.glob("groups-*.parquet"))
    for path in paths:
        columns_checked(columns_of(path), path.name, str(directory))
    return paths


def columns_of(path: Path) -> pa.Schema:
    """A file's columns.

    Raises:
        TableError: it is not Parquet.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path.name} is not Parquet: {error}") from error


def check_data(path: Path) -> Path:
    """Refuses what is neither a table nor a directory of arrays (training.data.groups), before any work.

    Returns:
        what the command reads from now on: a Delta table by its version, the newest one now where none is named;
        anything else as it was named.

    Raises:
        TableError: says what a table is, and what was found in its place.
    """
    if name := delta_name(path):
        delta_schema(name)
        return Path(str(pinned_delta(name)))
    if not (path / "features.npy").is_file():
        files(path)
    return path


def is_table(path: Path) -> bool:
    """Whether this names a table, of either form."""
    return delta_name(path) is not None or any(path.glob("groups-*.parquet"))


def name_of(table: Path) -> str:
    """A table's name, the same for all of its versions."""
    name = delta_name(table)
    return name.name if name else table.name


def hash_table(table: Path, update: Callable[[bytes], None]) -> None:
    """Hashes a table's content: a Parquet table's files, a Delta table's rows, however files and versions hold them.

    Raises:
        TableError: not a table.
    """
    if name := delta_name(table):
        update(json.dumps(delta_schema(name).to_json(), sort_keys=True).encode())
        for row in delta_rows(name, images=True):
            update(json.dumps(row, default=_as_text).encode())
        return
    update((table / "feature_schema.json").read_bytes())
    for path in files(table):
        update(path.name.encode())
        with path.open("rb") as opened:
            while block := opened.read(1 << 20):
                update(block)


def _as_text(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def why_no_table(path: Path) -> str | None:
    """Why this path is not a table, and what may be meant; None: it is one."""
    if name := delta_name(path):
        return why_no_delta(name)
    parquet, schema = any(path.glob("groups-*.parquet")), (path / "feature_schema.json").is_file()
    if parquet and schema:
        return None
    if str(path).startswith(("gs:/", "http:/", "https:/")):
        found = "is not a local folder; copy the table first, its pictures may stay where their uri says"
    elif "@" in path.name[1:] and (before := path.with_name(path.name.rpartition("@")[0])).exists():
        tail = path.name[len(before.name) :]
        why = "a number belongs behind @" if delta_name(before) else f"{before} is no Delta table; leave {tail} out"
        found = f"names no version: {why}"
    elif not path.exists():
        found = f"does not exist{_meant(path)}"
    elif path.is_file():
        found = "is a file, not a folder"
        if path.suffix == ".parquet":
            found += "; put it as groups-00000.parquet into one of its own"
    elif parquet:
        found = "has no feature_schema.json, which names the profile's features, their kinds and vocabularies"
    elif named := sorted(entry.name for entry in path.glob("*.parquet")):
        found = f"has no groups-*.parquet; rename {named[0]} to groups-00000.parquet"
    elif inside := sorted(entry.parent for entry in path.glob("*/groups-*.parquet")):
        found = f"has no groups-*.parquet; did you mean {inside[0]}?"
    else:
        found = "has no groups-*.parquet"
    return f"{path} {found} ({FORM}; docs/training.md, Your own data)"


def _meant(path: Path) -> str:
    """The folder beside the missing one with the most similar name."""
    missing = next((part for part in (path, *path.parents) if part.parent.exists()), path)
    beside = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = get_close_matches(missing.name, beside, 1, 0.7)
    return f"; did you mean {missing.with_name(near[0])}?" if near else ""


def count_rows(directory: Path) -> int:
    if name := delta_name(directory):
        return count_delta_rows(name)
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files(directory))


def read_schema(directory: Path) -> FeatureSchema:
    """The feature schema of a table's profiles, or of a directory of arrays."""
    if name := delta_name(directory):
        return delta_schema(name)
    return FeatureSchema.read(directory / "feature_schema.json")


def check_schema(data: Path, wanted: FeatureSchema, whose: str) -> None:
    """Refuses data of another feature schema than this, which is `whose`, before they are prepared.

    Raises:
        FeatureError: names the first feature that differs.
    """
    if differs := wanted.difference(read_schema(data)):
        raise FeatureError(f"the feature_schema.json of {data} differs from {whose}: {differs}")


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


def row_problems(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything in a row that is out of form, as (column, what)."""
    found = [(name, "is null") for name in SCHEMA.names if name not in OPTIONAL and row[name] is None]
    if row["features"] is not None and (what := _features_problem(row["features"])):
        found.append(("features", what))
    for place, entry in enumerate(row["candidates"] or ()):
        if entry is None:
            found.append((f"candidates[{place}]", "is null"))
        else:
            found += [(f"candidates[{place}].{n}", "is null") for n in ("image_id", "selected") if entry[n] is None]
    return found


def _features_problem(text: str) -> str | None:
    try:
        features = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return None if isinstance(features, dict) else "is not a JSON object"


def _from_row(row: Mapping[str, Any]) -> Group:
    return Group(
        group_id=row["group_id"], user_id=row["user_id"], prompt=row["prompt"],
        candidates=tuple(
            Candidate(entry["image_id"], bool(entry["selected"]), entry.get("image"), entry.get("uri"))
            for entry in row["candidates"]
        ),
        features=features_of(row["features"]),
        origin=row.get("origin") or "unknown", create_time=row.get("create_time"), release=_whole(row.get("release")),
    )  # fmt: skip


def features_of(text: str) -> dict[str, Any]:
    """A profile; a number that is not finite (NaN, infinity) becomes the unknown value, as a missing one does."""
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in json.loads(text).items()}


def _whole(value: float | None) -> int | None:
    """A whole number, which some writers keep as a float beside nulls."""
    return None if value is None or not math.isfinite(value) else int(value)


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


def rows_of(path: Path, images: bool) -> Iterator[dict[str, Any]]:
    """A file's rows; a column that it lacks is not among their keys.

    Raises:
        TableError: the file is damaged.
    """
    with reading(path, TableError), pq.ParquetFile(path) as file:
        leaves = [str(file.schema.column(i).path).split(".") for i in range(len(file.schema))]
        parts = ("image_id", "uri", "selected", *(["image"] if images else []))
        wanted = [
            ".".join(leaf) for leaf in leaves
            if (len(leaf) == 1 and leaf[0] in SCHEMA.names)
            or (leaf[0] == "candidates" and len(leaf) == 4 and leaf[3] in parts)
        ]  # fmt: skip
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            yield from _in_utc(batch).to_pylist()


def _in_utc(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With times in UTC and milliseconds, whatever the writer chose."""
    place, wanted = batch.schema.get_field_index("create_time"), SCHEMA.field("create_time").type
    if place < 0 or batch.schema.field(place).type == wanted:
        return batch
    return batch.set_column(place, "create_time", pc.cast(batch.column(place), wanted, safe=False))
