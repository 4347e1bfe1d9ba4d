"""A rollout.json that cannot be read: which steps mend it, and which are refused and say how it is mended."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from contract.errors import InputError
from contract.release import current_file
from contract.repository import Repository
from contract.rollout import Rollout, read_rollout, rollout_file
from deploy.releases import history
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from deploy.releases.history import History
from deploy.releases.status import look
from tests.deploy.releases.parts import Table, everywhere, loaded


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def damaged(controller: Controller, repository: Repository, lines: list[str]) -> Controller:
    """Release 2 is live, 1 the fallback, 3 was on trial."""
    controller.restore()
    controller.load(2)
    controller.promote(2)
    controller.load(3)
    controller.trial(3, 0.5)
    rollout_file(repository.root).write_text("{")
    return replace(controller, say=lines.append)


@pytest.mark.parametrize(
    ("step", "what", "live"),
    [
        (lambda c: c.rollback(), history.ROLLED_BACK, 1),
        (lambda c: c.restore(), history.SHARES, 2),
        (lambda c: c.end_trial(), history.TRIAL_ENDED, 2),
        (lambda c: c.end_trial(3), history.TRIAL_ENDED, 2),
    ],
    ids=["rollback", "restore", "end-trial", "end-trial 3"],
)
def test_it_is_written_anew(
    step: Callable[[Controller], None],
    what: str,
    live: int,
    damaged: Controller,
    repository: Repository,
    triton: Table,
    lines: list[str],
) -> None:
    triton.held = {model: {1: "READY"} for model in triton.held}  # it has just started
    step(damaged)
    assert (repository.live(), read_rollout(repository.root)) == (live, Rollout())
    last = History(repository.root).changes()[-1]
    assert (last.what, last.live, last.trial) == (what, live, None)
    assert sum("rollout.json cannot be read" in line and "; it is written anew" in line for line in lines) == 1
    if what == history.SHARES:
        assert loaded(triton) == everywhere(1, 2)


@pytest.mark.parametrize(
    "step",
    [
        lambda c: c.load(4),
        lambda c: c.trial(3, 0.5),
        lambda c: c.shares(exploration=0.05),
        lambda c: c.promote(3),
        lambda c: c.unload(3),
        lambda c: c.prune(1),
    ],
    ids=["load", "trial", "shares", "promote", "unload", "prune"],
)
def test_a_step_that_needs_to_know_it_is_refused_and_says_what_mends_it(
    step: Callable[[Controller], object], damaged: Controller, repository: Repository, triton: Table
) -> None:
    held = loaded(triton)
    with pytest.raises(InputError, match=r"rollout\.json cannot be read.*; end-trial writes it anew"):
        step(damaged)
    assert (rollout_file(repository.root).read_text(), loaded(triton)) == ("{", held)
    damaged.end_trial()
    step(damaged)


def test_a_rollback_that_is_refused_does_not_say_that_it_wrote_anything(
    controller: Controller, repository: Repository, lines: list[str]
) -> None:
    controller.restore()
    rollout_file(repository.root).write_text("{")
    with pytest.raises(ReleaseError, match="no release to go back to"):
        replace(controller, say=lines.append).rollback()
    assert (lines, rollout_file(repository.root).read_text()) == ([], "{")


def test_the_first_start_of_a_repository_writes_it_anew(controller: Controller, repository: Repository) -> None:
    current_file(repository.root).unlink()
    rollout_file(repository.root).write_text("{")
    controller.restore()
    assert (repository.live(), read_rollout(repository.root)) == (4, Rollout())


def test_status_says_what_is_live_all_the_same(damaged: Controller, repository: Repository, triton: Table) -> None:
    text = str(look(repository, [triton]))
    assert "live, warm" in text and "fallback, warm" in text
    assert "rollout.json cannot be read" in text and "end-trial writes it anew" in text
