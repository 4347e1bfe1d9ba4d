"""The mixed groups of a trial, as the table of picks has them, in the order in which their picks arrived.

Read from the columns that collecting adds to a table of groups (docs/loop.md): arm, trial_release, feedback_time, and
the release of each candidate. A group from which nothing can be concluded is counted by its reason, never left out
silently; so is one that was to be mixed and that the live release made, because the one on trial could not. Knows the
table and releases; no test and no verdict.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from contract.rollout import MIXED
from training.data.columns import TableError
from training.data.delta import DeltaName, delta_name, one_line, open_delta
from training.data.table import files
from training.retraining.betting import beyond_share

COLUMNS = ("group_id", "user_id", "create_time", "feedback_time", "arm", "trial_release", "candidates")
NO_PICK = "no pick in it"
ALL_PICKED = "every candidate picked"
LATEST = 100  # groups by which a trial is judged that began to fail
SAYS_NOTHING = (NO_PICK, ALL_PICKED)  # sound groups, which favour no release


@dataclass(frozen=True)
class MixedGroup:
    """A group whose merchant chose between the release on trial and the live one."""

    group_id: str
    merchant: str
    beyond: float  # what the trial got beyond its share, −1 < x < 1
    by_place: tuple[bool, ...]  # which candidates were picked, in the order of their ranks


@dataclass
class MixedGroups:
    """The usable mixed groups in the order of arrival, and the others by reason."""

    groups: list[MixedGroup] = field(default_factory=list)
    unusable: Counter[str] = field(default_factory=Counter)
    latest: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST))  # whether each that came last is broken
    version: int | None = None  # of the Delta table

    @property
    def broken(self) -> int:
        """How many are not as the rollout makes them."""
        return sum(count for reason, count in self.unusable.items() if reason not in SAYS_NOTHING)

    @property
    def broken_share(self) -> float:
        """Of all groups or of the latest, whichever is more: a trial that breaks late is as broken as one that was."""
        return max(self.broken / max(1, self.shown), sum(self.latest) / max(1, len(self.latest)))

    @property
    def shown(self) -> int:
        """All groups of the trial that were to be mixed and have an answer of their merchant."""
        return len(self.groups) + sum(self.unusable.values())


def read_mixed_groups(table: Path, live: int, trial: int, since: datetime) -> MixedGroups:
    """The mixed groups of this trial that were made from `since` on.

    Raises:
        TableError: not a table, or it lacks a column that collecting writes.
    """
    dataset, version = _dataset(table)
    if missing := [name for name in COLUMNS if name not in dataset.schema.names]:
        raise TableError(f"{table} lacks {', '.join(missing)}: mixed groups come from `training.retraining.collect`")
    of_trial = (ds.field("trial_release") == trial) & (ds.field("create_time") >= since)
    try:
        rows = dataset.to_table(columns=list(COLUMNS), filter=of_trial).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{table} cannot be read: {one_line(error)}") from error
    found = mixed_groups(rows, live, trial)
    found.version = version
    return found


def mixed_groups(rows: Iterable[Mapping[str, Any]], live: int, trial: int) -> MixedGroups:
    """Sorts rows by arrival and reads each; of several rows of one group the last one counts."""
    found = MixedGroups()
    by_arrival = sorted(rows, key=lambda row: (row["feedback_time"] is not None, row["feedback_time"], row["group_id"]))
    last = {row["group_id"]: place for place, row in enumerate(by_arrival)}
    for place, row in enumerate(by_arrival):
        read = _read(row, live, trial) if place == last[row["group_id"]] else "the same group again"
        found.latest.append(isinstance(read, str) and read not in SAYS_NOTHING)
        if isinstance(read, MixedGroup):
            found.groups.append(read)
        else:
            found.unusable[read] += 1
    return found


def _read(row: Mapping[str, Any], live: int, trial: int) -> MixedGroup | str:
    """The group, or why nothing can be concluded from it."""
    candidates = row["candidates"] or []
    releases = [candidate and candidate.get("release") for candidate in candidates]
    if not row["user_id"] or row["feedback_time"] is None:
        return "no merchant or no time of the pick"
    if any(candidate is None or candidate.get("selected") is None for candidate in candidates):
        return "a candidate that does not say whether it was picked"
    if row["arm"] != MIXED:
        return f"no candidate of release {trial} on trial, which could not draw"
    if trial not in releases:
        return f"no candidate of release {trial} on trial"
    if live not in releases:
        return f"no candidate of the live release {live}"
    if set(releases) != {live, trial}:
        return "a candidate of neither release"
    picked = [bool(candidate["selected"]) for candidate in candidates]
    if not any(picked):
        return NO_PICK
    if all(picked):
        return ALL_PICKED
    on_trial = [release == trial for release in releases]
    both = sum(here and chosen for here, chosen in zip(on_trial, picked, strict=True))
    beyond = beyond_share(sum(on_trial), len(candidates), both, sum(picked))
    return MixedGroup(row["group_id"], row["user_id"], beyond, tuple(picked))


def _dataset(table: Path) -> tuple[ds.Dataset, int | None]:
    """The table's files with all their columns, and its version if it is a Delta table."""
    if name := delta_name(table):
        opened = open_delta(name)
        return opened.to_pyarrow_dataset(), opened.version()
    return ds.dataset([str(path) for path in files(table)], format="parquet"), None


def table_version(table: Path) -> int | None:
    """The version that a Delta table's name says."""
    name: DeltaName | None = delta_name(table)
    return name.version if name else None
