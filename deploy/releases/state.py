"""What serves: the live release, the fallback and the rollout, which change as one.

A change writes its plan first (`.change.json`), then rollout.json, the fallback and, last, the pointer; then its line
of history. Every state on the way serves. The next command completes a change that a crash interrupted if these files
were written, and else takes it back: it has not happened. Knows files; neither Triton nor which change is wise.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from contract.errors import InputError, ManifestError, reading
from contract.repository import STATE, Repository, sync, write_durably
from contract.rollout import Rollout, read_rollout, rollout_file
from deploy.releases.errors import ReleaseError
from deploy.releases.history import Change, History, whoever_runs

Found = TypeVar("Found")
WITHOUT = "without trial, exploration and hold-back"  # what a rollout is that is written anew
MENDED = f"end-trial writes it anew, {WITHOUT}"


@dataclass(frozen=True)
class State:
    """What services answer with, and where a rollback goes."""

    live: int | None
    fallback: int | None
    rollout: Rollout

    @property
    def trial(self) -> int | None:
        """The release in mixed groups; a trial of the live release is over."""
        return None if self.rollout.trial == self.live else self.rollout.trial

    @property
    def served(self) -> set[int]:
        """The releases that requests are served by."""
        return self.rollout.releases | ({self.live} if self.live is not None else set())

    @property
    def needed(self) -> set[int]:
        """Those, and the one that a rollback goes back to: they stay loaded."""
        return self.served | ({self.fallback} if self.fallback is not None else set())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "State":
        return cls(data["live"], data["fallback"], Rollout.from_json(data["rollout"]))


def read(repository: Repository) -> State:
    """What serves now.

    Raises:
        ManifestError: the pointer or the rollout cannot be read.
    """
    found, damage = as_it_is(repository)
    if damage:
        raise ManifestError(f"{damage}; {MENDED}")
    return found


def as_it_is(repository: Repository) -> tuple[State, str]:
    """What serves now, and why the rollout cannot be read: then the live release serves everybody.

    Raises:
        ManifestError: the pointer cannot be read.
    """
    pointers = repository.live(), repository.fallback()
    try:
        return State(*pointers, read_rollout(repository.root)), ""
    except InputError as error:
        return State(*pointers, Rollout()), str(error)


@contextmanager
def changing(
    repository: Repository, doing: str, say: Callable[[str], None], wait_s: float | None = None
) -> Iterator[None]:
    """Only one process at a time changes what serves; first it settles what a crash left half done."""
    with repository.lock(STATE, doing, wait_s, say):
        _put_damaged_aside(repository, say)
        _settle(repository, say)
        yield


def change(repository: Repository, what: str, before: State, after: State, reason: str) -> None:
    """Puts another state in service. Only inside `changing`.

    Raises:
        ReleaseError: no release would be live.
    """
    if after.live is None:
        raise ReleaseError("no release is live yet: promote one first")
    history, now = History(repository.root), datetime.now(UTC)
    known = history.changes()
    made = Change(
        number=max(known[-1].number if known else 0, history.announced()) + 1,
        event_id=str(uuid4()),
        time=max(known[-1].time, now) if known else now,
        what=what,
        live=after.live,
        previous=before.live,
        fallback=after.fallback,
        trial=after.rollout.trial,
        mixed_share=after.rollout.mixed_share,
        exploration_share=after.rollout.exploration_share,
        base=after.rollout.base,
        holdback_share=after.rollout.holdback_share,
        reason=reason,
        by=whoever_runs(),
    )
    plan = {"before": before.to_json(), "after": after.to_json(), "change": made.to_json()}
    write_durably(_plan_file(repository), json.dumps(plan))
    _write(repository, after)
    _complete(repository, made)


def changes(repository: Repository) -> list[Change]:
    """All changes that were made, oldest first, with one whose line of history a crash kept from being written.

    Raises:
        ManifestError: the history is out of form.
    """
    known = History(repository.root).changes()
    if (plan := _plan(repository)) is not None:
        _, after, made = plan
        if all(each.event_id != made.event_id for each in known) and _reached(repository, after):
            known.append(made)
    return known


def told(rollout: Rollout) -> str:
    """A rollout in one line, for a person."""
    parts = [f"exploration {rollout.exploration_share:.1%}"]
    if rollout.trial is not None:
        parts.insert(0, f"release {rollout.trial} on trial in {rollout.mixed_share:.1%} of requests")
    if rollout.base is not None:
        parts.append(f"hold-back of {rollout.holdback_share:.1%} of merchants on release {rollout.base}")
    return "; ".join(parts)


def _put_damaged_aside(repository: Repository, say: Callable[[str], None]) -> None:
    """Neither a history nor a plan that cannot be read holds up a way back; it is kept under another name."""
    history = History(repository.root)
    for reads, path in ((history.changes, history.file), (lambda: _plan(repository), _plan_file(repository))):
        try:
            reads()
        except InputError as error:
            aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
            path.rename(aside)
            say(f"warning: {error}; it is now {aside.name}, and a new one begins")


def _settle(repository: Repository, say: Callable[[str], None]) -> None:
    if (plan := _plan(repository)) is None:
        return
    before, after, made = plan
    if _reached(repository, after):
        _complete(repository, made)
        return
    _write(repository, before)
    _forget(repository)
    say(f"warning: {made.what} of {made.time:%Y-%m-%d %H:%M:%S} by {made.by} was interrupted and is taken back")


def _write(repository: Repository, state: State) -> None:
    """The pointer moves last. What is so already is not written."""
    if _unless_damaged(lambda: read_rollout(repository.root)) != state.rollout:
        write_durably(rollout_file(repository.root), json.dumps(state.rollout.to_json()) + "\n")
    pointers = _unless_damaged(lambda: (repository.live(), repository.fallback()))
    if state.live is not None and pointers != (state.live, state.fallback):
        repository.point(state.live, state.fallback)


def _reached(repository: Repository, state: State) -> bool:
    return _unless_damaged(lambda: read(repository)) == state


def _unless_damaged(reads: Callable[[], Found]) -> Found | None:
    try:
        return reads()
    except InputError:
        return None


def _complete(repository: Repository, made: Change) -> None:
    history = History(repository.root)
    if all(known.event_id != made.event_id for known in history.changes()):
        history.append(made)
    _forget(repository)


def _plan(repository: Repository) -> tuple[State, State, Change] | None:
    path = _plan_file(repository)
    if not path.exists():
        return None
    with reading(path, ManifestError):
        plan = json.loads(path.read_text(encoding="utf-8"))
        return State.from_json(plan["before"]), State.from_json(plan["after"]), Change.from_json(plan["change"])


def _forget(repository: Repository) -> None:
    _plan_file(repository).unlink()
    sync(_plan_file(repository).parent)


def _plan_file(repository: Repository) -> Path:
    return repository.root / "releases" / ".change.json"
