"""A table of groups as a Delta table: named by its place and version, its rows in the order of time.

    LAKE/groups       the newest version
    LAKE/groups@12    version 12
    s3://bucket/groups@12

Its columns are those of training.data.columns, `feature_schema.json` lies beside them. Rows come by (create_time,
group_id), rows without a time first, whatever files they lie in, so that "the last groups" are the newest. A version
stays what it is, until its files are removed (docs/loop.md says when). The keys for s3:// come from the environment
variables that all of Amazon's programs read. Knows Delta tables; nothing about how they are made.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileType, PyFileSystem

from contract.errors import InputError
from contract.feature_schema import FeatureSchema
from training.common.errors import reading
from training.data.columns import CANDIDATE, SCHEMA, TableError, columns_checked

SCHEMA_FILE = "feature_schema.json"
_BATCH = 64  # rows turned into Python at once
_MOST_SAID = 400  # characters of a library's message
_AWS = (  # Amazon's variables → deltalake's options
    ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
    ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN"),
    ("AWS_DEFAULT_REGION", "AWS_REGION"),
    ("AWS_REGION", "AWS_REGION"),
    ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL"),
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
)


@dataclass(frozen=True)
class DeltaName:
    """Which Delta table, and which version of it; None: the newest."""

    location: str  # a folder, or s3://…
    version: int | None = None

    def __str__(self) -> str:
        return self.location if self.version is None else f"{self.location}@{self.version}"

    @property
    def name(self) -> str:
        """Its last part, without the version."""
        return self.location.rstrip("/").rpartition("/")[2]


def delta_name(path: Path | str) -> DeltaName | None:
    """The Delta table that a path names; None: what lies there, if anything, is none.

    A path that a command line made from s3://… has lost a slash, and gets it back.
    """
    text = re.sub(r"^(s3a?):/+", r"\1://", str(path))
    if "://" in text:
        found = re.fullmatch(r"(.+)@(\d+)", text)
        name = DeltaName(found[1], int(found[2])) if found else DeltaName(text)
        return name if text.startswith(("s3://", "s3a://")) else None
    if (Path(text) / "_delta_log").is_dir():
        return DeltaName(text)
    found = re.fullmatch(r"(.+)@(\d+)", text)
    if found and not Path(text).exists() and (Path(found[1]) / "_delta_log").is_dir():
        return DeltaName(found[1], int(found[2]))
    return None


def storage_options(location: str) -> dict[str, str]:
    """What deltalake is told about a place, from the environment; nothing for a folder."""
    if not location.startswith(("s3://", "s3a://")):
        return {}
    options = {option: os.environ[name] for name, option in _AWS if os.environ.get(name)}
    options["AWS_CONDITIONAL_PUT"] = "etag"  # of two writers, one wins
    if urlsplit(options.get("AWS_ENDPOINT_URL", "")).scheme == "http":
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def open_delta(name: DeltaName) -> DeltaTable:
    """The table at this version, all of whose files are there.

    Raises:
        TableError: there is no such table, or no such version, or not any more; the message names what there is.
    """
    options = storage_options(name.location)
    try:
        newest = DeltaTable(name.location, storage_options=options)
    except TableNotFoundError as error:
        raise TableError(f"there is no Delta table at {name.location}") from error
    except (DeltaError, OSError) as error:
        raise TableError(f"{name.location} cannot be read: {one_line(error)}") from error
    if name.version is None or name.version == newest.version():
        return newest
    there = f"the newest is {name.location}@{newest.version()}"
    if name.version > newest.version():
        raise TableError(f"{name.location} has no version {name.version} yet; {there}")
    try:
        table = DeltaTable(name.location, version=name.version, storage_options=options)
    except (DeltaError, OSError) as error:
        raise TableError(f"version {name.version} of {name.location} is gone: its log is removed; {there}") from error
    found = file_system(name.location).get_file_info(_files_of(table))
    if any(info.type == FileType.NotFound for info in found):
        why = "files of it are removed, after the time that versions are kept or because a merchant was erased"
        raise TableError(f"version {name.version} of {name.location} is gone: {why}; {there}")
    return table


def pinned_delta(name: DeltaName) -> DeltaName:
    """The same table by its version, the newest one now where none is named.

    Raises:
        TableError: as `open_delta`; or its columns are not a table's.
    """
    table = open_delta(name)
    pinned = DeltaName(name.location, table.version())
    columns_checked(_dataset(table, pinned).schema, str(pinned), str(pinned))
    return pinned


def why_no_delta(name: DeltaName) -> str | None:
    """Why no training can read this table at all; None: it can, as far as its columns are a table's."""
    try:
        open_delta(name)
        delta_schema(name)
    except InputError as error:
        return str(error)
    return None


def delta_columns(name: DeltaName) -> pa.Schema:
    """The table's columns."""
    return _dataset(open_delta(name), name).schema


def count_delta_rows(name: DeltaName) -> int:
    return int(_dataset(open_delta(name), name).count_rows())


def delta_rows(name: DeltaName, images: bool) -> Iterator[dict[str, Any]]:
    """The rows in the order of time; a column that the table lacks is not among their keys.

    Raises:
        TableError: as `open_delta`; or a file is damaged.
    """
    parts = {part.name for part in CANDIDATE} - (set() if images else {"image"})
    for batch in load_delta(name).to_batches(max_chunksize=_BATCH):
        for row in batch.to_pylist():
            row["candidates"] = row["candidates"] and [entry and _only(entry, parts) for entry in row["candidates"]]
            yield row


def load_delta(name: DeltaName) -> pa.Table:
    """All rows, in the order of time, of the columns that trainings read. They are in memory at once, so a table's
    pictures belong where their uri says.

    Raises:
        TableError: as `open_delta`; or a file is damaged.
    """
    dataset = _dataset(open_delta(name), name)
    try:
        table = dataset.to_table(columns=[field for field in dataset.schema.names if field in SCHEMA.names])
    except (pa.ArrowException, OSError, DeltaError) as error:
        raise TableError(f"{name} cannot be read: {one_line(error)}") from error
    place = table.schema.get_field_index("create_time")
    if place < 0:
        return table.take(pc.sort_indices(table, sort_keys=[("group_id", "ascending")]))
    times = pc.cast(table.column(place), SCHEMA.field("create_time").type, safe=False)
    table = table.set_column(place, "create_time", times)
    keys = [("create_time", "ascending", "at_start"), ("group_id", "ascending", "at_start")]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def delta_schema(name: DeltaName) -> FeatureSchema:
    """The feature schema that lies beside the table.

    Raises:
        TableError: there is none, or the place does not answer.
    """
    try:
        with file_system(name.location).open_input_stream(SCHEMA_FILE) as stream:
            text = stream.read().decode()
    except FileNotFoundError as error:
        what = f"{name.location} has no {SCHEMA_FILE}, which names the profile's features, their kinds and vocabularies"
        raise TableError(what) from error
    except (OSError, DeltaError) as error:
        raise TableError(f"{name.location}/{SCHEMA_FILE} cannot be read: {one_line(error)}") from error
    with reading(Path(name.location) / SCHEMA_FILE, TableError):
        return FeatureSchema.from_json(json.loads(text))


def file_system(location: str) -> PyFileSystem:
    """The files below a place, by paths relative to it."""
    return PyFileSystem(DeltaStorageHandler(location, storage_options(location)))


def one_line(error: Exception) -> str:
    """What a library says, in one line and without colours and arrows."""
    text = re.sub(r"\x1b\[[0-9;]*m|↳", "", str(error))
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return ": ".join(lines)[:_MOST_SAID] or type(error).__name__


def _files_of(table: DeltaTable) -> list[str]:
    return [str(path) for path in pa.table(table.get_add_actions()).column("path").to_pylist()]


def _dataset(table: DeltaTable, name: DeltaName) -> ds.Dataset:
    try:
        return table.to_pyarrow_dataset()
    except (DeltaError, OSError) as error:  # written with features that this reader does not have
        raise TableError(f"{name} cannot be read: {one_line(error)}") from error


def _only(entry: dict[str, Any], parts: set[str]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name in parts}
