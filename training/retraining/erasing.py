"""Takes one merchant out of the loop's tables: out of every version that can be read, for good.

The erasure is written down first, so that whoever collects drops what is still to come. Then each table loses the
merchant's rows in a commit that carries the erasure's number: a process that read the table before fails to write what
it had in hand. Last, every file that the table has left behind and that holds a row of the merchant is removed, whether
a version names it or a killed process left it; a version that named one cannot be read any more, all others can.

Knows tables and files; Kafka forgets by itself (contract.topics), services forget by services.erasure.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from training.data.delta import file_system, one_line
from training.retraining.erasures import TRANSACTION, Erased, erased
from training.retraining.lake import (
    ERASURES_SCHEMA,
    OF_MERCHANTS,
    SCHEMAS,
    Lake,
    LakeError,
    Raced,
    append,
    carrying,
)

_ATTEMPTS = 30  # at a commit that others are faster than
_PAUSE_S = 0.2


def erase(lake: Lake, user_id: str, prepared: Path | None = None) -> dict[str, int]:
    """Erases a merchant; done again, it finds nothing more, and is written down again.

    Args:
        lake: the tables.
        user_id: the merchant.
        prepared: where trainings keep prepared tables (training.data.prepare); those with the merchant are removed.

    Returns:
        how many rows of each table, files and prepared folders were removed, and `rows_left`, which is 0.

    Raises:
        LakeError: a table could not be changed; what was written down says how far it came. Run it again.
    """
    _write_down(lake, user_id, {"state": "begun"})
    known = erased(lake)
    done = {name: _delete(lake, name, user_id, known) for name in OF_MERCHANTS}
    done["files"] = sum(_remove_files(lake.open(name), user_id) for name in OF_MERCHANTS)
    done["prepared"] = _remove_prepared(prepared, user_id) if prepared else 0
    done["rows_left"] = sum(_rows_left(lake.open(name), user_id) for name in OF_MERCHANTS)
    _write_down(lake, user_id, {"state": "done" if not done["rows_left"] else "failed", **done})
    if done["rows_left"]:
        raise LakeError(f"{done['rows_left']} rows are left in {lake.uri}: another process wrote them; run it again")
    return done


def _write_down(lake: Lake, user_id: str, report: dict[str, object]) -> None:
    for _ in _attempts():
        table = erased(lake)
        row = {"user_hash": table.hash_of(user_id), "erasure_time": datetime.now(UTC), "report": json.dumps(report)}
        with suppress(Raced):
            append(lake.open("erasures"), [row], ERASURES_SCHEMA, {})
            return
    raise LakeError(f"{lake.location('erasures')} could not be written: others are always faster")


def _delete(lake: Lake, name: str, user_id: str, known: Erased) -> int:
    """Deletes the rows in a commit that outdates whatever others have read; returns how many."""
    condition = f"encode(sha256(concat('{known.salt}', user_id)), 'hex') = '{known.hash_of(user_id)}'"
    for _ in _attempts():
        table = lake.open(name)
        with suppress(CommitFailedError, Raced):
            try:
                deleted = table.delete(condition, commit_properties=carrying({TRANSACTION: known.version}))
            except (DeltaError, OSError) as error:
                if isinstance(error, CommitFailedError | FileNotFoundError):
                    continue
                raise LakeError(f"{table.table_uri} cannot be changed: {one_line(error)}") from error
            if not deleted["num_deleted_rows"]:  # then there was no commit
                append(table, [], SCHEMAS[name], {TRANSACTION: known.version})
            return int(deleted["num_deleted_rows"])
    raise LakeError(f"{lake.location(name)} could not be changed: others are always faster; run it again")


def _attempts() -> Iterator[int]:
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_S * min(attempt, 5))
        yield attempt


def _left_behind(table: DeltaTable) -> list[str]:
    """Data files beside the table that its newest version does not name."""
    listed = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True, full=True)
    return sorted({path for path in listed if path.endswith(".parquet")})


def _remove_files(table: DeltaTable, user_id: str) -> int:
    files, removed = file_system(table.table_uri), 0
    for path in _left_behind(table):
        if _rows_of(table, path, user_id):
            with suppress(FileNotFoundError):
                files.delete_file(path)
            removed += 1
    return removed


def _rows_left(table: DeltaTable, user_id: str) -> int:
    table.update_incremental()
    named = pa.table(table.get_add_actions()).column("path").to_pylist()
    return sum(_rows_of(table, path, user_id) for path in (*named, *_left_behind(table)))


def _rows_of(table: DeltaTable, path: str, user_id: str) -> int:
    """How many rows of a file are the merchant's; none where the file is gone, or was never finished.

    Raises:
        LakeError: it cannot be read, so nobody knows.
    """
    try:
        with file_system(table.table_uri).open_input_file(path) as file:
            column = pq.read_table(file, columns=["user_id"]).column(0)
    except (FileNotFoundError, pa.ArrowInvalid):
        return 0
    except (pa.ArrowException, OSError, DeltaError) as error:
        raise LakeError(f"{table.table_uri}/{path} cannot be read: {one_line(error)}; run it again") from error
    return sum(value == user_id for value in column.to_pylist())


def _remove_prepared(prepared: Path, user_id: str) -> int:
    """Removes prepared tables that hold the merchant, and whatever was computed from pictures; all can be made anew."""
    removed = 0
    for file in sorted(prepared.glob("*/user_ids.npy")):
        if user_id in np.load(file, mmap_mode="r"):
            shutil.rmtree(file.parent, ignore_errors=True)
            removed += 1
    for computed in (*prepared.glob("latents-*.npy"), *prepared.glob("tags-*.npy")) if removed else ():
        computed.unlink(missing_ok=True)
    return removed
