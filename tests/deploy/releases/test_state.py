"""Changes of what serves: whole or not at all, through a crash at any write, each with its line of history."""

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.errors import ManifestError
from contract.release import current_file
from contract.repository import STATE, LockedError, Repository
from contract.rollout import Rollout, assign, rollout_file
from deploy.releases import state
from deploy.releases.errors import ReleaseError
from deploy.releases.history import PROMOTED, ROLLED_BACK, SHARES, TRIAL_ENDED, TRIAL_STARTED, History
from deploy.releases.lookback import served
from deploy.releases.state import State

BESIDE = Rollout(exploration_share=0.05, base=1, holdback_share=0.02, salt="s")
ON_TRIAL = replace(BESIDE, trial=7, mixed_share=0.5)
CHANGES = {
    "first promotion": (PROMOTED, State(None, None, Rollout()), State(6, None, Rollout())),
    "promotion": (PROMOTED, State(6, 5, BESIDE), State(7, 6, BESIDE)),
    "promotion of the release on trial": (PROMOTED, State(6, 5, ON_TRIAL), State(7, 6, BESIDE)),
    "rollback": (ROLLED_BACK, State(6, 5, BESIDE), State(5, 6, BESIDE)),
    "rollback during a trial": (ROLLED_BACK, State(6, 5, ON_TRIAL), State(5, 6, BESIDE)),
    "trial": (TRIAL_STARTED, State(6, 5, BESIDE), State(6, 5, ON_TRIAL)),
    "end of a trial": (TRIAL_ENDED, State(6, 5, ON_TRIAL), State(6, 5, BESIDE)),
    "shares": (SHARES, State(6, None, Rollout()), State(6, None, BESIDE)),
}


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Ends the process before its n-th rename, fsync or deletion of a file; None: never."""
    steps, limit = itertools.count(), [-1]

    def counted(does: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == limit[0]:
                raise Crash
            return does(*args, **kwargs)

        return step

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(os, "fsync", counted(lambda descriptor: None))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))

    def set_limit(number: int | None) -> None:
        nonlocal steps
        steps, limit[0] = itertools.count(), -1 if number is None else number

    return set_limit


def put(repository: Repository, given: State) -> None:
    """A repository in a state, whose history is of one change."""
    if given.live is not None:
        with state.changing(repository, "put", print):
            state.change(repository, PROMOTED, State(None, None, Rollout()), given, "")


def changed(repository: Repository, what: str, before: State, after: State) -> None:
    with state.changing(repository, what, print):
        state.change(repository, what, before, after, "because")


def settled(repository: Repository) -> None:
    with state.changing(repository, "the next command", print):
        pass


@pytest.mark.parametrize(("what", "before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_whole_or_has_not_happened_wherever_its_process_ends(
    what: str, before: State, after: State, tmp_path: Path, crash_at: Callable[[int | None], None]
) -> None:
    ends = set()
    for n in itertools.count():
        repository = Repository(tmp_path / str(n))
        crash_at(None)
        put(repository, before)
        told = len(History(repository.root).changes())
        crash_at(n)
        try:
            changed(repository, what, before, after)
        except Crash:
            pass
        else:
            break
        crash_at(None)
        found = state.read(repository)
        assert found.live in (before.live, after.live), "it serves"
        if found.live is not None:
            drawn = {assign(found.rollout, found.live, f"m{i}", f"r{i}", 4).drawn_by for i in range(50)}
            loaded = {before.live, after.live, *before.rollout.releases, *after.rollout.releases}
            assert {release for each in drawn for release in each} <= loaded
        now = datetime.now(UTC)
        answered = served(repository, now)
        settled(repository)
        found, history = state.read(repository), History(repository.root).changes()
        assert found in (before, after)
        assert len(history) == told + (found == after)
        assert served(repository, now) == answered, "what served is known before it is settled"
        ends.add(found == after)
    assert ends == {False, True}
    assert (state.read(repository), History(repository.root).changes()[-1].reason) == (after, "because")


def test_a_crash_while_a_crash_is_settled_is_settled_too(
    tmp_path: Path, crash_at: Callable[[int | None], None]
) -> None:
    what, before, after = CHANGES["promotion of the release on trial"]
    for n, m in itertools.product(range(0, 12, 2), range(8)):
        repository = Repository(tmp_path / f"{n} {m}")
        crash_at(None)
        put(repository, before)
        crash_at(n)
        with suppress(Crash):
            changed(repository, what, before, after)
        crash_at(m)
        with suppress(Crash):
            settled(repository)
        crash_at(None)
        settled(repository)
        found, history = state.read(repository), History(repository.root).changes()
        assert (found, len(history)) in ((before, 1), (after, 2))


def test_what_was_taken_back_is_said(
    tmp_path: Path, crash_at: Callable[[int | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(tmp_path)
    put(repository, State(6, 5, BESIDE))
    crash_at(5)
    with pytest.raises(Crash):
        changed(repository, PROMOTED, State(6, 5, BESIDE), State(7, 6, BESIDE))
    crash_at(None)
    settled(repository)
    assert "warning: CHANGE_PROMOTED of 20" in capsys.readouterr().out


def test_one_process_at_a_time_changes_what_serves(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with (
        repository.lock(STATE, "rollback"),
        pytest.raises(LockedError, match="is held by rollback"),
        state.changing(repository, "x", print),
    ):
        pass


def test_a_rollout_or_pointer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    put(repository, State(6, 5, BESIDE))
    rollout_file(tmp_path).write_text("{")
    with pytest.raises(ManifestError, match=r"rollout\.json"):
        state.read(repository)
    current_file(tmp_path).write_text("six")
    with pytest.raises(ManifestError, match="current"):
        state.read(repository)


@pytest.mark.parametrize("name", ["history.jsonl", ".change.json"])
def test_a_history_or_plan_that_cannot_be_read_is_put_aside(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(tmp_path)
    put(repository, State(6, 5, BESIDE))
    (tmp_path / "releases" / name).write_text("{}\n")
    changed(repository, ROLLED_BACK, State(6, 5, BESIDE), State(5, 6, BESIDE))
    assert repository.live() == 5
    assert History(tmp_path).changes()[-1].what == ROLLED_BACK
    (aside,) = (tmp_path / "releases").glob(f"{name}.damaged-*")
    assert aside.read_text() == "{}\n"
    assert f"{name} cannot be read" in capsys.readouterr().out


def test_nothing_changes_beside_a_release_that_does_not_serve(tmp_path: Path) -> None:
    nothing = State(None, None, Rollout())
    with pytest.raises(ReleaseError, match="no release is live yet"):
        changed(Repository(tmp_path), SHARES, nothing, replace(nothing, rollout=BESIDE))
