"""Keeps the tables' files few: small ones are put together, and what no kept version needs is removed.

Every commit adds a file. From FEWEST small ones on they are put together, which changes no row and no offset. The files
before stay for the versions that name them, and are removed when these have been kept long enough: versions of
LAKE/groups and LAKE/shop, which releases name, for `lake.KEPT_DAYS`, those of LAKE/events, which nobody names, for a
day. What a killed process left without a commit goes after a day, too. All of it is done on handles of its own: these
commits carry no offsets, and to refresh a collector's snapshot would let it write over what another process has written
since. Knows files; nothing about rows.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from training.data.delta import file_system, one_line
from training.retraining.lake import OF_MERCHANTS, Lake, LakeError

FEWEST = 32  # small files that are put together
TARGET_BYTES = 128 * 2**20
ORPHANED = timedelta(days=1)
_REMOVE_EVERY_S = 3600.0


class Upkeep:
    """What is done now and then while a process collects."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._removed = time.monotonic()

    def after_batch(self) -> None:
        """Puts files together where they are many; removes what is too old once an hour."""
        for name in OF_MERCHANTS:
            compact(self._lake.open(name))
        if time.monotonic() - self._removed > _REMOVE_EVERY_S:
            self.at_end()

    def at_end(self) -> None:
        """Removes what is too old."""
        self._removed = time.monotonic()
        for name in OF_MERCHANTS:
            remove_old(self._lake.open(name))


def compact(table: DeltaTable, fewest: int = FEWEST) -> bool:
    """Puts small files together, if there are so many; whether it did. `table` is nobody else's handle."""
    sizes = pa.table(table.get_add_actions()).column("size_bytes").to_pylist()
    if sum(size < TARGET_BYTES // 2 for size in sizes) < fewest:
        return False
    try:
        table.optimize.compact(target_size=TARGET_BYTES)
    except (CommitFailedError, FileNotFoundError):  # somebody else changed the files; there will be a next time
        return False
    except (DeltaError, OSError) as error:
        raise LakeError(f"files of {table.table_uri} cannot be put together: {one_line(error)}") from error
    return True


def remove_old(table: DeltaTable) -> None:
    """Removes the files that only versions need which are kept no longer, and those that no commit names."""
    try:
        if table.vacuum(dry_run=True):
            table.vacuum(dry_run=False)
        remove_orphans(table, ORPHANED)
    except (DeltaError, OSError) as error:
        raise LakeError(f"old files of {table.table_uri} cannot be removed: {one_line(error)}") from error


def remove_orphans(table: DeltaTable, age: timedelta) -> int:
    """Removes data files of that age that no commit names, as a killed process leaves them; returns how many."""
    every: dict[str, Any] = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": True}
    unnamed = sorted({*table.vacuum(full=True, **every)} - {*table.vacuum(**every)})
    files, before = file_system(table.table_uri), datetime.now(UTC) - age
    found = files.get_file_info([path for path in unnamed if path.endswith(".parquet")]) if unnamed else []
    old = [info.path for info in found if info.mtime is not None and info.mtime <= before]
    for path in old:
        files.delete_file(path)
    return len(old)
