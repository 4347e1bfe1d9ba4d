"""What a family was trained on: which collected groups, up to when, and for which merchants.

    retraining.json   the record of the training, in the family's folder and in the run's
    trained_on.json   beside it: the ids of the groups, the newest one's time, hashed merchants

A retraining writes it, so that the gate needs no old version of a table, which goes after some time or when a merchant
is erased. Merchants, those of the original data too, are hashed with a salt that lies beside them. A family from before
there was such a file is read from the version that its record names. Knows ids and records; no pictures and no models.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from training.common.errors import ModelError, reading
from training.common.reports import write_report
from training.data.table import Group, read_table

RECORD = "retraining.json"
FILE = "trained_on.json"


class RecordError(ModelError):
    """A record does not say what a family was trained on."""


@dataclass(frozen=True)
class TrainedOn:
    """The collected groups that a family was trained on, and the merchants of these and of the original data."""

    group_ids: frozenset[str] = frozenset()
    until: datetime | None = None  # when the newest of them was made
    salt: str = ""
    merchants: frozenset[str] = frozenset()  # salted hashes

    @classmethod
    def of(cls, groups: Sequence[Group], original: Iterable[Group] = (), salt: str = "") -> "TrainedOn":
        """A training on collected groups and original ones."""
        until = max((group.create_time for group in groups if group.create_time), default=None)
        merchants = {group.user_id for group in (*groups, *original)}
        return cls(
            frozenset(group.group_id for group in groups), until, salt, frozenset(_hash(salt, m) for m in merchants)
        )

    def knows(self, user_id: str) -> bool:
        """Whether a group of this merchant was among them."""
        return _hash(self.salt, user_id) in self.merchants

    def write(self, folder: Path) -> None:
        """Writes the file; the same groups give the same bytes."""
        until = self.until.isoformat() if self.until else None
        lists = {"groups": sorted(self.group_ids), "merchants": sorted(self.merchants)}
        write_report(folder / FILE, {"until": until, "salt": self.salt, **lists})


def record_of(family: Path) -> Path | None:
    """The record of the training that made a family, in its folder or beside it; None: it has none."""
    return next((path for path in (family / RECORD, family.parent / RECORD) if path.is_file()), None)


def trained_on(family: Path) -> TrainedOn | None:
    """What a family was trained on; None: it has no record.

    Raises:
        RecordError: the files do not say it.
        TableError: there is no such file, and the version of the table is gone.
    """
    if (record := record_of(family)) is None:
        return None
    path = record.with_name(FILE)
    if not path.is_file():
        return _from_version(record)
    with reading(path, RecordError):
        found = json.loads(path.read_text(encoding="utf-8"))
        until = datetime.fromisoformat(found["until"]) if found["until"] else None
        return TrainedOn(frozenset(found["groups"]), until, found["salt"], frozenset(found["merchants"]))


def _from_version(path: Path) -> TrainedOn:
    """All groups of the version that a record names but the held-out ones; some may have been left out."""
    with reading(path, RecordError):
        record = json.loads(path.read_text(encoding="utf-8"))
        table, version, held_out = record["table"], record["table_version"], set(record["hold_out"]["groups"])
    name = f"{table}@{version}" if isinstance(version, int) else table
    return TrainedOn.of([group for group in read_table(Path(name), images=False) if group.group_id not in held_out])


def _hash(salt: str, user_id: str) -> str:
    return hashlib.sha256((salt + user_id).encode()).hexdigest()
