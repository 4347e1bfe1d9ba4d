"""What raters answered: ratings.jsonl, read against its design and key.

A line of ratings.jsonl is

    {"design_id": "…", "rater_id": "…", "task_id": "…", "answers": {…}, "dwell_ms": 6200, "time":
    "2026-11-27T09:00:00Z"}

`answers` of a task of kind "rate" maps aspects to 0, 1 or 2; an aspect that is left out or null was not judged. Of a
task of kind "origin" it is {"origin": "ai" | "human" | "unsure"}. `dwell_ms` is how long the picture has been on the
rater's screen in all, up to this line. Of several lines of one rater and task the one with the latest `time` counts, of
equal times the later line. Raters may leave tasks out. Knows formats; no statistics.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import reading
from training.measurement.errors import MeasurementError
from training.measurement.rating.designing import DESIGN_FORMAT, KEY_FORMAT, design_digest
from training.measurement.rating.protocol import NAMES, ORIGIN_ANSWERS, SCALE, Protocol


@dataclass(frozen=True)
class Rated:
    """A design with its key."""

    design: dict[str, Any]
    key: dict[str, Any]
    protocol: Protocol

    @classmethod
    def read(cls, design: Path, key: Path) -> "Rated":
        """Both files.

        Raises:
            MeasurementError: one is of another format, or the design is not the one that the key was made with.
        """
        found, secret = _json(design, DESIGN_FORMAT), _json(key, KEY_FORMAT)
        if design_digest(found) != secret["design_sha256"]:
            raise MeasurementError(f"{design} was changed after it was fixed, or {key} belongs to another design")
        with reading(design, MeasurementError):
            return cls(found, secret, Protocol.from_json(found["protocol"]))


@dataclass(frozen=True, eq=False)
class Answer:
    """What counts of one rater's one task."""

    rater_id: str
    picture: str
    kind: str  # "first", "repeat", "gold" or "origin"
    repeat_of: str | None  # the task whose picture a repeat shows again
    task_id: str
    scores: np.ndarray  # float (A,), NaN where not judged; of an origin task all NaN
    origin: str | None
    dwell_ms: int


def read_answers(path: Path, rated: Rated) -> list[Answer]:
    """What counts, in the order of the design.

    Raises:
        MeasurementError: names the line that fits no task of the design, or answers what was not asked.
    """
    return answers_of(_lines(path), rated, path)


def answers_of(lines: Iterable[tuple[int, Any]], rated: Rated, path: Path) -> list[Answer]:
    """The same from numbered lines that are read already; `path` is said where one is refused."""
    tasks = {(r["rater_id"], t["task_id"]): t for r in rated.design["raters"] for t in r["tasks"]}
    last: dict[tuple[str, str], tuple[datetime, Answer]] = {}
    for number, line in lines:
        try:
            time, answer = _answer(line, rated, tasks)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise MeasurementError(f"{path}:{number}: {why}") from error
        place = (answer.rater_id, answer.task_id)
        if place not in last or time >= last[place][0]:
            last[place] = (time, answer)
    return [last[place][1] for place in tasks if place in last]


def _answer(line: Any, rated: Rated, tasks: dict[tuple[str, str], Any]) -> tuple[datetime, Answer]:
    if line["design_id"] != rated.design["design_id"]:
        raise ValueError(f"is of the design {line['design_id']}, not {rated.design['design_id']}")
    task = tasks.get((line["rater_id"], line["task_id"]))
    if task is None:
        raise ValueError(f"the design has no task {line['task_id']!r} of the rater {line['rater_id']!r}")
    time = datetime.fromisoformat(line["time"])
    if time.tzinfo is None:
        raise ValueError(f"the time {line['time']!r} lacks its time zone")
    if type(line["dwell_ms"]) is not int or line["dwell_ms"] < 0:
        raise ValueError(f"dwell_ms must be a whole number of milliseconds, got {line['dwell_ms']!r}")
    secret = rated.key["tasks"][line["task_id"]]
    scores, origin = np.full(len(NAMES), np.nan), None
    if task["kind"] == "origin":
        origin = line["answers"]["origin"]
        if origin not in ORIGIN_ANSWERS:
            raise ValueError(f"origin must be one of {', '.join(ORIGIN_ANSWERS)}, got {origin!r}")
    else:
        scores = _scores(line["answers"])
    return time, Answer(
        line["rater_id"], task["picture"], secret["kind"], secret["repeat_of"], line["task_id"], scores, origin,
        line["dwell_ms"],
    )  # fmt: skip


def _scores(answers: dict[str, Any]) -> np.ndarray:
    if odd := answers.keys() - set(NAMES):
        raise ValueError(f"there is no aspect {min(odd)!r}")
    for aspect, score in answers.items():
        if score is not None and (type(score) is not int or score not in SCALE):
            raise ValueError(f"{aspect} must be 0, 1, 2 or null, got {score!r}")
    return np.array([np.nan if answers.get(name) is None else answers[name] for name in NAMES], float)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with reading(path, MeasurementError):
        text = path.read_text("utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise MeasurementError(f"{path}:{number}: {error}") from error


def _json(path: Path, wanted: str) -> dict[str, Any]:
    with reading(path, MeasurementError):
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if found["format"] != wanted:
            raise MeasurementError(f"is {found['format']!r}, not {wanted!r}")
    return found
