"""The lake as of one version of each of its tables. Knows Delta's files, and what must be copied before what."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from deploy.backup.files import fetch, listed
from deploy.backup.places import BackupError
from training.data.delta import SCHEMA_FILE, storage_options
from training.retraining.lake import Lake

# Groups follow from events that are in the lake before them, and every commit knows the erasures of before: so each
# table is copied no later than what it follows from, and a collector finds the rest of the way by itself.
ORDER = ("groups", "events", "shop", "erasures")
ATTEMPTS = 3  # an erasure or a compaction may take a file away under the copy
_LOGGED = re.compile(r"_delta_log/(\d{20})\.")


def take(lake: Lake, folder: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Copies the newest version of each table; returns the versions, and the files.

    Raises:
        BackupError: files went away again and again.
    """
    versions: dict[str, int] = {}
    files: dict[str, Any] = {}
    for name in ORDER:
        if not lake.exists(name):
            continue
        versions[name], found = _take(lake.location(name), folder / name)
        files |= {f"{name}/{path}": of for path, of in found.items()}
    return versions, files


def _take(location: str, folder: Path) -> tuple[int, dict[str, Any]]:
    for _ in range(ATTEMPTS):
        table = DeltaTable(location, storage_options=storage_options(location))
        there = listed(location)
        data = {unquote(str(path)) for path in pa.table(table.get_add_actions()).column("path").to_pylist()}
        log = {path for path in there if (of := _LOGGED.match(path)) and int(of[1]) <= table.version()}
        wanted = {path: there[path] for path in sorted((data | log | {SCHEMA_FILE}) & there.keys())}
        if data - wanted.keys():
            continue
        try:
            return table.version(), fetch(location, wanted, folder, reuse=lambda path: path.endswith(".parquet"))
        except FileNotFoundError:
            continue
    raise BackupError(f"{location} changes faster than it can be copied: run it again")


def merchants_of(lake: Lake) -> set[str]:
    """Everybody with an event or a group in the lake."""
    found: set[str] = set()
    for name in ("groups", "events", "shop"):
        if lake.exists(name):
            table = lake.open(name).to_pyarrow_table(columns=["user_id"])
            found |= {str(each) for each in table.column("user_id").unique().to_pylist() if each is not None}
    return found
