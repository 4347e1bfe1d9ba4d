"""What served when, and which changes Kafka has not been told of.

    <repository>/releases/history.jsonl   a line a change, only ever added to; each has the whole state from then on
                          announced       the number of the last change that Kafka has acknowledged

Knows lines and times; neither what may change nor how Kafka is told.
"""

import getpass
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.errors import ManifestError, reading
from contract.repository import sync, write_durably

# What changed, by the names of perfusion.v1.Change.
PROMOTED, ROLLED_BACK = "CHANGE_PROMOTED", "CHANGE_ROLLED_BACK"
TRIAL_STARTED, TRIAL_ENDED, SHARES = "CHANGE_TRIAL_STARTED", "CHANGE_TRIAL_ENDED", "CHANGE_SHARES"


@dataclass(frozen=True)
class Change:
    """One change, with the whole state after it; `previous` is the live release before."""

    number: int  # from 1, without gaps
    event_id: str  # UUID, the same whenever Kafka is told
    time: datetime  # UTC; never before the change before
    what: str  # name of a perfusion.v1.Change
    live: int
    previous: int | None
    fallback: int | None
    trial: int | None
    mixed_share: float
    exploration_share: float
    base: int | None
    holdback_share: float
    reason: str
    by: str

    def to_json(self) -> dict[str, Any]:
        """A line of history.jsonl."""
        return asdict(self) | {"time": self.time.isoformat(timespec="milliseconds")}

    @classmethod
    def from_json(cls, data: Any) -> "Change":
        """What `to_json` gave; a later version may say more, which is left out."""
        return cls(**{f.name: data[f.name] for f in fields(cls)} | {"time": parsed_time(data["time"])})


@dataclass(frozen=True)
class History:
    """The history of one repository; without a file, nothing has changed yet."""

    repository: Path

    @property
    def file(self) -> Path:
        return self.repository / "releases" / "history.jsonl"

    @property
    def _announced_file(self) -> Path:
        return self.repository / "releases" / "announced"

    def changes(self) -> list[Change]:
        """All of them, oldest first. A last line that a power loss cut off counts as not written.

        Raises:
            ManifestError: a line is out of form.
        """
        with reading(self.file, ManifestError):
            return [Change.from_json(json.loads(line)) for line in self._whole().splitlines()]

    def append(self, change: Change) -> None:
        """Adds a line that outlives a power loss."""
        whole = self._whole()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.truncate(len(whole))
            file.write(json.dumps(change.to_json()).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync(self.file.parent)

    def owed(self) -> list[Change]:
        """Changes that Kafka has not acknowledged, oldest first."""
        announced = self.announced()
        return [change for change in self.changes() if change.number > announced]

    def announced(self) -> int:
        """The number of the last change that Kafka has acknowledged; 0 before the first."""
        try:
            return int(self._announced_file.read_text())
        except (OSError, ValueError):  # consumers drop what they hear again
            return 0

    def mark_announced(self, number: int) -> None:
        write_durably(self._announced_file, f"{number}\n")

    def _whole(self) -> bytes:
        content = self.file.read_bytes() if self.file.exists() else b""
        return content[: content.rfind(b"\n") + 1]


def served_at(changes: Sequence[Change], time: datetime) -> Change | None:
    """The change that made the state of that time; None before the first."""
    return next((change for change in reversed(changes) if change.time <= time), None)


def parsed_time(text: str) -> datetime:
    """ISO 8601 to UTC; a time without zone is UTC.

    Raises:
        ValueError: it is no time.
    """
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def whoever_runs() -> str:
    """Who makes a change: "user@host, process 123"."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
