"""What traffic leaves: a line for every round that ended, and one for every call that did not end OK.

Knows files of JSON lines; neither the platform nor who plays.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROUNDS, FAILED = "rounds.jsonl", "failed.jsonl"


class TrafficError(Exception):
    """Merchants cannot play."""


@dataclass(frozen=True)
class Failed:
    """A call that did not end OK."""

    time: float  # seconds since 1970
    method: str
    code: str
    details: str
    retryable: bool  # it came with the time after which to try again, or its connection broke


@dataclass(frozen=True)
class Shown:
    """One finished round; lists are by candidate, best rank first."""

    time: float  # seconds since 1970
    group_id: str
    user_id: str
    release: int
    arm: str  # of contract.rollout.ARMS
    drawn_by: list[int]
    utilities: list[float]
    prompt_accuracy: list[float]
    diversity: float
    picked: list[bool]
    event_id: str  # of the pick; "" when it was not taken
    latency_s: float


def append(path: Path, what: Shown | Failed) -> None:
    """One line more."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(what)) + "\n")


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Of a file that may not be there yet; a last line that a kill cut off is left out."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            return
