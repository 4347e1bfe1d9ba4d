"""Whether a retraining is due: by the number of groups that the last one did not have, or by the time since it began.

Knows tables and the record of the last retraining; loads no models.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from training.common.errors import ModelError, reading
from training.data.table import check_data, count_rows


@dataclass(frozen=True)
class Due:
    """When a retraining is due; either is enough, and without both it always is."""

    min_new: int | None = None  # groups more than the last one had
    every_h: float | None = None  # hours since the last one began
    last: Path | None = None  # its folder; None, or a folder without a finished one: there was none


def due(groups: Path, asked: Due, now: datetime | None = None) -> str | None:
    """Why a retraining is not due; None: it is.

    Raises:
        ModelError: there is no table, or the last record cannot be read.
    """
    if asked.min_new is None and asked.every_h is None:
        return None
    path = asked.last / "retraining.json" if asked.last else None
    record = {}
    if path is not None and path.is_file():
        with reading(path, ModelError):
            record = json.loads(path.read_text(encoding="utf-8"))
    had, missing = 0, list[str]()
    if record.get("state") == "finished":
        had = int(record["rows"])
        if asked.every_h is not None:
            began = datetime.fromisoformat(record["began"])
            hours = ((now or datetime.now(UTC)) - began).total_seconds() / 3600
            if hours >= asked.every_h:
                return None
            missing.append(f"{hours:.1f} of {asked.every_h:g} hours")
    elif asked.every_h is not None:
        return None  # there was none
    if asked.min_new is not None:
        new = count_rows(check_data(groups)) - had
        if new >= asked.min_new:
            return None
        missing.append(f"{new} of {asked.min_new} new groups")
    return ", ".join(missing)
