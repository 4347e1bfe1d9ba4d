"""A back-up's own record, backup.json: which steps are done, and every file with its size and SHA-256.

It is written after each step, so a back-up that was interrupted goes on with the step that was under way.
"""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contract.repository import write_durably
from deploy.backup.places import BackupError

FORMAT = 1
FILE = "backup.json"


@dataclass
class Record:
    """What a back-up holds. A restore takes one alone that is complete."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    format: int = FORMAT
    began: str = field(default_factory=lambda: now())  # RFC 3339, UTC: the point; what was acknowledged before is in it
    complete: str = ""  # when; "" while it is being taken
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)  # those that are done, with what they say
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # by path: bytes, sha256

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """None where none has begun.

        Raises:
            BackupError: it is of another format, or damaged.
        """
        file = folder / FILE
        if not file.exists():
            return None
        try:
            record = cls(**json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise BackupError(f"{file} is no record of a back-up: {error}") from error
        if record.format != FORMAT:
            raise BackupError(f"{file} has format {record.format}; this version reads {FORMAT}")
        return record

    def write(self, folder: Path) -> None:
        write_durably(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")

    def below(self, folder: str) -> dict[str, dict[str, Any]]:
        """The files below a folder of the back-up, by their paths in it."""
        return {path.removeprefix(f"{folder}/"): of for path, of in self.files.items() if path.startswith(f"{folder}/")}

    def verify(self, folder: Path) -> None:
        """Reads every file.

        Raises:
            BackupError: it is not complete, or a file is missing, cut short or changed.
        """
        if not self.complete:
            raise BackupError(f"{folder} is not complete: run the same `take` again, it goes on")
        total = sum(of["bytes"] for of in self.files.values())
        with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=None) as bar:
            for path, of in self.files.items():
                if (found := digest(folder / path)) != of:
                    raise BackupError(f"{folder / path} is not as it was written: {found or 'missing'}, not {of}")
                bar.update(of["bytes"])


def digest(file: Path) -> dict[str, Any]:
    """Size and SHA-256; empty where there is no file."""
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
