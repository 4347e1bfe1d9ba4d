"""Studies in which experts rate pictures blindly: a design as its folder has it, and which task a rater may see.

A design (docs/measuring.md) says what is asked, and for each rater which pictures in which order. How a picture was
made, which task is a repeat, and whose answer is known stand in key.json, which never comes near the studio: a folder
that holds one is refused, and so is a design that says more than a rater may know. It knows files and orders; no
database and no page.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FORMAT = "perfusion-rating-design/1"
DESIGN, KEY = "design.json", "key.json"
RATE, ORIGIN = "rate", "origin"  # kinds of tasks
CORRECTABLE = 5  # so many of the last answers may be changed
MOST_PICTURE_BYTES = 32 * 2**20
_PNG = b"\x89PNG\r\n\x1a\n"
_TOKEN_BYTES = 24

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class DesignRefused(Exception):
    """A folder's design cannot be shown to raters; says why."""


class _Strict(BaseModel):
    """What else it says might tell how a picture was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Aspect(_Strict):
    """One thing that is rated; an anchor says what its score means."""

    name: Word
    question: Text
    anchors: Annotated[list[Text], Field(min_length=3, max_length=3)]


class Origin(_Strict):
    """What is asked last."""

    question: Text
    answers: Annotated[list[Literal["ai", "human", "unsure"]], Field(min_length=2)]


class Protocol(_Strict):
    """What is asked, and how; the numbers that only the analysis needs are kept with it."""

    scale: list[Literal[0, 1, 2]]
    aspects: Annotated[list[Aspect], Field(min_length=1, max_length=20)]
    overall: str
    origin: Origin
    min_dwell_ms: Annotated[int, Field(ge=0, le=600_000)]
    raters_per_picture: int
    repeat_share: float
    repeat_gap: int
    max_gold_failures: float
    origin_pictures: int
    size_px: Annotated[int, Field(ge=1, le=4_096)]
    draws: int
    confidence: float

    @model_validator(mode="after")
    def _is_whole(self) -> "Protocol":
        if self.scale != [0, 1, 2]:
            raise ValueError("the scale must be 0, 1, 2")
        if len({aspect.name for aspect in self.aspects}) < len(self.aspects):
            raise ValueError("an aspect occurs twice")
        return self


class Picture(_Strict):
    """Where it lies, from the design."""

    file: Annotated[str, Field(max_length=200)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class PlannedTask(_Strict):
    """One question of one rater about one picture."""

    task_id: Name
    kind: Literal["rate", "origin"]
    picture: Name


class PlannedRater(_Strict):
    """A rater's tasks, in their order."""

    rater_id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
    order_seed: int
    tasks: Annotated[list[PlannedTask], Field(min_length=1, max_length=10_000)]


class Design(_Strict):
    """design.json."""

    format: Literal["perfusion-rating-design/1"]
    design_id: Name
    created: str
    protocol: Protocol
    pictures: dict[Name, Picture]
    raters: Annotated[list[PlannedRater], Field(min_length=1, max_length=1_000)]
    balance: dict[str, int | float]

    @model_validator(mode="after")
    def _is_whole(self) -> "Design":
        if len({rater.rater_id for rater in self.raters}) < len(self.raters):
            raise ValueError("a rater occurs twice")
        tasks = [task for rater in self.raters for task in rater.tasks]
        if len({task.task_id for task in tasks}) < len(tasks):
            raise ValueError("a task occurs twice")
        if lost := {task.picture for task in tasks} - self.pictures.keys():
            raise ValueError(f"a task shows the picture {min(lost)}, which is not listed")
        for rater in self.raters:
            kinds = [task.kind for task in rater.tasks]
            if kinds != sorted(kinds, key=(RATE, ORIGIN).index):
                raise ValueError(f"{rater.rater_id!r} is asked who made a picture before all are rated")
        return self


@dataclass(frozen=True)
class Loaded:
    """A design with its pictures' bytes by name; `sha256` is what was published before the first rating."""

    design: Design
    sha256: str
    pictures: Mapping[str, bytes]


def read_design(folder: Path) -> Loaded:
    """The design of a folder.

    Raises:
        DesignRefused: the folder holds the key, the design is of another form, or a picture is not the one it names.
    """
    try:
        if key := next(folder.rglob(KEY), None):
            raise DesignRefused(f"{key} says how each picture was made: move it to where the analysis is made")
        given = (folder / DESIGN).read_bytes()
        found = json.loads(given)
        design = Design.model_validate_json(given)
        pictures = {name: _picture(folder, name, said) for name, said in design.pictures.items()}
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'design'}: {each['msg']}" for each in error.errors()[:5])
        raise DesignRefused(f"{folder / DESIGN}: {said}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DesignRefused(f"{folder / DESIGN}: {error}") from error
    return Loaded(design, _digest(json.dumps(found, sort_keys=True, separators=(",", ":")).encode()), pictures)


def _picture(folder: Path, name: str, said: Picture) -> bytes:
    file = folder / said.file
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DesignRefused(f"pictures.{name}.file: {said.file} lies outside of the design")
    if file.stat().st_size > MOST_PICTURE_BYTES:
        raise DesignRefused(f"{file} has more than {MOST_PICTURE_BYTES // 2**20} MiB")
    png = file.read_bytes()
    if _digest(png) != said.sha256:
        raise DesignRefused(f"{file} is not the picture of the design: its SHA-256 differs")
    if not png.startswith(_PNG):
        raise DesignRefused(f"{file} is no PNG")
    return png


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def new_token() -> str:
    """What a rater's personal link ends in."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def key_of(token: str) -> str:
    """What is kept of a token: whoever reads the database cannot rate."""
    return _digest(token.encode())


@dataclass(frozen=True)
class Rater:
    """Who a link belongs to, and the study as raters see it."""

    study_id: str
    rater_id: str
    protocol: Protocol
    has_begun: bool
    is_closed: bool


@dataclass(frozen=True)
class Task:
    """One of a rater's tasks, and how far it has come; `number` counts from 1 in the rater's order."""

    number: int
    task_id: str
    kind: str
    picture: str
    was_shown: bool
    dwell_ms: int  # on the rater's screen in all
    answers: Mapping[str, int | str | None] | None  # the latest; None: not answered


def current(tasks: Sequence[Task]) -> Task | None:
    """The task that is next; None when all are answered."""
    return next((task for task in tasks if task.answers is None), None)


def may_answer(tasks: Sequence[Task], number: int) -> bool:
    """Whether a task is open: the next one, and the last few before it.

    Nobody changes a rating once they were asked who made a picture: what is asked last must not reach what was asked
    before.
    """
    now = current(tasks)
    task = tasks[number - 1]
    if now is not None and number == now.number:
        return True
    end = now.number if now is not None else len(tasks) + 1
    asked_who = any(each.kind == ORIGIN and each.was_shown for each in tasks)
    return max(1, end - CORRECTABLE) <= number < end and (task.kind == ORIGIN or not asked_who)


def is_turning(tasks: Sequence[Task]) -> bool:
    """Whether all is rated, and who made the pictures was not asked yet."""
    now = current(tasks)
    return (
        now is not None
        and now.kind == ORIGIN
        and now.number > 1
        and not any(each.kind == ORIGIN and each.was_shown for each in tasks)
    )
