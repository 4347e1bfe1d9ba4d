"""The tables of the loop: where they lie, how they are made, and how rows and Kafka's offsets go in together.

    LAKE/events     one row an event, as it came; Kafka's offsets as the application transactions of its commits
    LAKE/groups     one row a group with its counting pick; made from the events (training.retraining.joining)
    LAKE/shop       one row an event of the shop (training.retraining.shop_events), with the offsets of its own topic
    LAKE/erasures   who was erased, by a salted hash (training.retraining.erasures)

A commit carries every offset that its rows move, so a table and its offsets are never apart. `append` writes through
the snapshot whose offsets were read: where another writer has moved them since, the commit fails, and `Raced` tells the
writer to begin anew. Statistics are kept of offsets and times only, so that the log of a table names no merchant.
Knows Delta tables; nothing about Kafka or messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.fs import FileType

from contract.feature_schema import FeatureSchema
from contract.repository import write_durably
from training.common.errors import ModelError
from training.data.delta import SCHEMA_FILE, file_system, one_line, storage_options
from training.retraining.joining import GROUPS_SCHEMA
from training.retraining.shop_events import SHOP_SCHEMA

EVENTS_SCHEMA = pa.schema([
    ("cluster_id", pa.string()), ("topic", pa.string()), ("topic_id", pa.string()), ("partition", pa.int32()),
    ("offset", pa.int64()), ("event_id", pa.string()), ("event_type", pa.string()), ("user_id", pa.string()),
    ("group_id", pa.string()), ("event_time", pa.timestamp("us", tz="UTC")), ("value", pa.binary()),
])  # fmt: skip
ERASURES_SCHEMA = pa.schema([
    ("user_hash", pa.string()), ("erasure_time", pa.timestamp("us", tz="UTC")), ("report", pa.string()),
])  # fmt: skip
ZSTD = WriterProperties(compression="ZSTD")
KEPT_DAYS = 30  # how long a version of the groups and the shop stays readable, unless a merchant of it is erased
_STATISTICS = {
    "events": "topic,partition,offset,event_time", "groups": "create_time,release", "shop": "create_time",
    "erasures": "erasure_time",
}  # fmt: skip
SCHEMAS = {"events": EVENTS_SCHEMA, "groups": GROUPS_SCHEMA, "shop": SHOP_SCHEMA, "erasures": ERASURES_SCHEMA}
OF_MERCHANTS = ("events", "groups", "shop")  # tables that grow while a process collects, and have merchants' rows


class LakeError(ModelError):
    """A table cannot be read or written; the message says which."""


class Raced(Exception):
    """Another writer was faster: nothing was written. What was read of the table is no longer so; begin anew."""


@dataclass(frozen=True)
class Lake:
    """A folder, or s3://…, with the tables."""

    uri: str

    def location(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        return DeltaTable.is_deltatable(self.location(name), storage_options(self.uri))

    def set_feature_schema(self, file: Path | None) -> None:
        """Keeps a feature schema beside the groups; without a file, makes sure that one is there.

        Raises:
            FeatureError: the file is none.
            LakeError: there is none yet, or the place cannot be written to.
        """
        self.open("groups")
        files = file_system(self.location("groups"))
        if file is None:
            if files.get_file_info(SCHEMA_FILE).type != FileType.File:
                where = f"{self.location('groups')}/{SCHEMA_FILE}"
                raise LakeError(f"{where} is missing: give --feature-schema FAMILY/feature_schema.json once")
            return
        text = FeatureSchema.read(file).to_text()
        if "://" in self.uri:
            with fsspec.open(f"{self.location('groups')}/{SCHEMA_FILE}", "w", encoding="utf-8") as stream:
                stream.write(text)
        else:
            write_durably(Path(self.location("groups")) / SCHEMA_FILE, text)

    def open(self, name: str, description: str | None = None) -> DeltaTable:
        """The table as it is now; made, empty, with this description, if there is none.

        Raises:
            LakeError: there is something else, or it cannot be reached.
        """
        location, options = self.location(name), storage_options(self.uri)
        try:
            return DeltaTable(location, storage_options=options)
        except TableNotFoundError:
            pass
        except (DeltaError, OSError) as error:
            raise LakeError(f"{location} cannot be read: {one_line(error)}") from error
        try:
            DeltaTable.create(
                location, schema=SCHEMAS[name], mode="ignore", description=description,
                configuration=_settings(name), storage_options=options,
            )  # fmt: skip
            return DeltaTable(location, storage_options=options)
        except (DeltaError, OSError) as error:
            raise LakeError(f"{location} cannot be made: {one_line(error)}") from error


def _settings(name: str) -> dict[str, str | None]:
    kept = "interval 1 days" if name == "events" else f"interval {KEPT_DAYS} days"
    return {
        "delta.dataSkippingStatsColumns": _STATISTICS[name],
        "delta.deletedFileRetentionDuration": kept,
        "delta.logRetentionDuration": kept,
        "delta.checkpointInterval": "50",
    }


def carrying(transactions: Mapping[str, int]) -> CommitProperties:
    """A commit with these application transactions: it fails where another has moved one of them since."""
    return CommitProperties(app_transactions=[Transaction(name, version) for name, version in transactions.items()])


def append(table: DeltaTable, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, moved: Mapping[str, int]) -> None:
    """Adds rows and moves offsets, in one commit on top of the snapshot that `table` is; `table` is then the new one.

    Raises:
        Raced: another writer has moved them since.
        LakeError: the place cannot be written to.
    """
    with _committing(table):
        write_deltalake(
            table, pa.Table.from_pylist(list(rows), schema=schema), mode="append",
            commit_properties=carrying(moved), writer_properties=ZSTD,
        )  # fmt: skip


def put(table: DeltaTable, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, moved: Mapping[str, int]) -> None:
    """As `append`, in the place of rows with the same group_id."""
    with _committing(table):
        merge = table.merge(
            pa.Table.from_pylist(list(rows), schema=schema), predicate="old.group_id = new.group_id",
            source_alias="new", target_alias="old", commit_properties=carrying(moved), writer_properties=ZSTD,
        )  # fmt: skip
        merge.when_matched_update_all().when_not_matched_insert_all().execute()


@contextmanager
def _committing(table: DeltaTable) -> Iterator[None]:
    try:
        yield
    except (CommitFailedError, FileNotFoundError) as error:
        raise Raced(one_line(error)) from error
    except (DeltaError, OSError) as error:
        if table.version() < DeltaTable(table.table_uri, storage_options=storage_options(table.table_uri)).version():
            raise Raced(one_line(error)) from error  # a file that was to be rewritten is gone, for one
        raise LakeError(f"{table.table_uri} cannot be written: {one_line(error)}") from error


@contextmanager
def reading_files() -> Iterator[None]:
    """A file that is gone was taken away since the table was opened.

    Raises:
        Raced: so it is.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise Raced(one_line(error)) from error
