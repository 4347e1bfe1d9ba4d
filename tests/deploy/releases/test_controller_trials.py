"""Trials, shares and ways back: what starts and ends them, what they keep loaded, what they refuse."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from contract.errors import InputError
from contract.repository import CONTROL, STATE, LockedError, Repository
from contract.rollout import Rollout, read_rollout
from deploy.releases import tritons
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from deploy.releases.history import History
from tests.deploy.releases.parts import Table, everywhere, loaded, spoil


def whats(repository: Repository) -> list[str]:
    """What has changed so far."""
    return [change.what.removeprefix("CHANGE_") for change in History(repository.root).changes()]


def files(repository: Repository) -> dict[str, bytes]:
    """All that says what serves."""
    found = (repository.root / "releases").iterdir()
    return {path.name: path.read_bytes() for path in found if path.is_file() and not path.name.endswith("lock")}


def test_a_loaded_release_goes_on_trial_and_off(controller: Controller, repository: Repository, triton: Table) -> None:
    controller.restore()
    controller.load(2)
    controller.trial(2, 0.5, "its offline gate passed")
    on_trial = read_rollout(repository.root)
    assert (on_trial.trial, on_trial.mixed_share, repository.live()) == (2, 0.5, 1)
    assert len(on_trial.salt) == 32
    controller.trial(2, 0.5)  # again
    controller.trial(2, 0.25)
    controller.end_trial(reason="undecided")
    controller.end_trial()  # a repeat does nothing
    controller.end_trial(2)
    ended = read_rollout(repository.root)
    assert (ended.trial, ended.mixed_share, ended.salt) == (None, 0.0, on_trial.salt)
    assert loaded(triton) == everywhere(1, 2), "what began in mixed groups ends there"
    assert whats(repository) == ["TRIAL_STARTED", "SHARES", "TRIAL_ENDED"]
    assert [c.reason for c in History(repository.root).changes()] == ["its offline gate passed", "", "undecided"]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda c: c.trial(1, 0.5), "release 1 is live: a trial needs another"),
        (lambda c: c.trial(4, 0.5), "release 2 is on trial: end-trial first"),
        (lambda c: c.trial(2, 0.0), "share of a trial"),
        (lambda c: c.trial(2, float("nan")), "share of a trial"),
        (lambda c: c.trial(2, 0.99), "more than all requests together"),
        (lambda c: c.end_trial(4), "release 4 is not on trial; 2 is"),
        (lambda c: c.promote(4), "release 2 is on trial: end-trial first"),
        (lambda c: c.promote(3), "release 2 is on trial: end-trial first"),
        (lambda c: c.unload(2), "release 2 is live, the fallback, on trial or the base"),
        (lambda c: c.unload(1), "release 1 is live, the fallback, on trial or the base"),
        (lambda c: c.shares(base=3), "denoiser 3 is not loaded; load release 3 first"),
        (lambda c: c.shares(base=0), "no base release"),
        (lambda c: c.shares(holdback=2.0), "holdback_share"),
        (lambda c: c.shares(exploration=0.9), "more than all requests together"),
        (lambda c: c.rollback(), "no release to go back to: load and promote one; end-trial ends the trial"),
    ],
)
def test_a_refused_step_leaves_everything_as_it_was(
    step: Callable[[Controller], None], told: str, controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    controller.load(2)
    controller.shares(exploration=0.05, holdback=0.02, base=1)
    controller.trial(2, 0.5)
    controller.load(4)
    before, models = files(repository), loaded(triton)
    with pytest.raises((ReleaseError, InputError), match=told):
        step(controller)
    assert (files(repository), loaded(triton)) == (before, models)


@pytest.mark.parametrize(
    ("number", "told"), [(2, "is not loaded; load release 2 first: load 2"), (9, "there is no release 9")]
)
def test_no_trial_of_a_release_that_does_not_answer(
    number: int, told: str, controller: Controller, repository: Repository
) -> None:
    controller.restore()
    before = files(repository)
    with pytest.raises((ReleaseError, InputError), match=told):
        controller.trial(number, 0.5)
    assert files(repository) == before


def test_a_promotion_ends_the_trial_in_the_same_step(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    controller.load(2)
    controller.trial(2, 0.5)
    controller.promote(2, "e-value 31")
    assert (repository.live(), repository.fallback(), read_rollout(repository.root).trial) == (2, 1, None)
    assert whats(repository) == ["TRIAL_STARTED", "PROMOTED"]
    assert loaded(triton) == everywhere(1, 2)


def test_a_rollback_ends_the_trial(controller: Controller, repository: Repository, triton: Table) -> None:
    controller.restore()
    for number in (2, 3):
        controller.load(number)
        if number == 2:
            controller.promote(2)
    controller.trial(3, 0.5)
    loads = len(triton.loads)
    controller.rollback("clients complain")
    assert (repository.live(), repository.fallback(), read_rollout(repository.root).trial) == (1, 2, None)
    assert len(triton.loads) == loads
    assert whats(repository)[-1] == "ROLLED_BACK"


def test_after_two_rejected_candidates_the_live_release_is_what_it_was(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    for number in (2, 3):
        controller.load(number)
        controller.trial(number, 0.5)
        controller.end_trial(number, "its gate says: roll back")
    assert (repository.live(), loaded(triton)) == (1, everywhere(1, 3))


def test_what_a_trial_or_a_hold_back_needs_stays_loaded_and_on_disk(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    controller.shares(exploration=0.05, holdback=0.02, base=1)
    for number in (2, 3):
        controller.load(number)
        controller.promote(number)
    controller.load(4)
    controller.trial(4, 0.5)
    assert (repository.live(), repository.fallback()) == (3, 2)
    assert loaded(triton) == everywhere(1, 2, 3, 4)
    assert controller.prune(1, stopped=True) == []
    triton.held = {model: {} for model in triton.held}  # a Triton that has just started
    controller.restore()
    assert loaded(triton) == everywhere(1, 2, 3, 4)
    controller.promote(4)
    assert loaded(triton) == everywhere(1, 3, 4), "2 is needed no more"
    controller.shares(holdback=0.0, base=0)
    assert read_rollout(repository.root) == Rollout(exploration_share=0.05, salt=read_rollout(repository.root).salt)


@pytest.mark.parametrize("how", ["refused by Triton", "damaged", "deleted"])
def test_a_start_takes_what_cannot_be_loaded_out_of_the_rollout(
    how: str, controller: Controller, repository: Repository, triton: Table
) -> None:
    """No request shall go to a release that is not there."""
    controller.restore()
    controller.load(2)
    controller.load(3)
    controller.load(2)
    controller.shares(exploration=0.05, holdback=0.02, base=2)
    controller.load(3)
    controller.trial(3, 0.5)
    triton.held = {model: {} for model in triton.held}
    for number in (2, 3):
        if how == "refused by Triton":
            triton.refuses.append(("text_encoder", number))
        elif how == "damaged":
            spoil(repository, number)
        else:
            (repository.release_dir(number) / "manifest.json").unlink()
    controller.restore()
    assert (repository.live(), loaded(triton)) == (1, everywhere(1))
    rollout = read_rollout(repository.root)
    assert (rollout.trial, rollout.base, rollout.holdback_share, rollout.exploration_share) == (None, None, 0, 0.05)
    assert whats(repository)[-2:] == ["TRIAL_ENDED", "SHARES"]


@pytest.mark.parametrize("way", [lambda c: c.rollback(), lambda c: c.end_trial()], ids=["rollback", "end of a trial"])
def test_a_way_back_waits_for_no_load_and_no_unloading(
    way: Callable[[Controller], None], controller: Controller, repository: Repository
) -> None:
    controller.restore()
    controller.load(2)
    controller.promote(2)
    controller.load(3)
    controller.trial(3, 0.5)
    with repository.lock(CONTROL, "load 4"):
        way(controller)
    assert read_rollout(repository.root).trial is None
    with repository.lock(STATE, "promote 4"), pytest.raises(LockedError, match="is held by promote 4"):
        way(controller)


def test_a_rollback_goes_through_while_a_promotion_waits_for_rounds_to_end(
    controller: Controller, repository: Repository, triton: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment at which somebody finds out that the new release is no good."""
    controller.restore()
    for number in (2, 3):
        controller.load(number)
        if number == 2:
            controller.promote(2)
    waits, goes_on = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        waits.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(tritons.time, "sleep", sleep)
    promotion = threading.Thread(target=controller.promote, args=(3,))
    promotion.start()
    assert waits.wait(60)
    assert repository.live() == 3
    controller.rollback()
    assert repository.live() == 2
    goes_on.set()
    promotion.join(60)
    assert (repository.live(), repository.fallback(), loaded(triton)) == (2, 3, everywhere(2, 3))


@pytest.mark.parametrize(
    "step", [lambda c: c.load(4), lambda c: c.unload(3), lambda c: c.prune(1, stopped=True), lambda c: c.restore()]
)
def test_what_a_promotion_that_died_would_have_freed_is_still_needed(
    step: Callable[[Controller], object],
    controller: Controller,
    repository: Repository,
    triton: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process ended when the trial was written off, and the pointers were not moved yet."""
    controller.restore()
    controller.load(2)
    controller.promote(2)
    controller.load(3)
    controller.trial(3, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "point", interrupted)
        with pytest.raises(KeyboardInterrupt):
            controller.promote(3)
    assert read_rollout(repository.root).trial is None
    with suppress(ReleaseError):
        step(controller)
    assert (repository.live(), repository.fallback(), read_rollout(repository.root).trial) == (2, 1, 3)
    for number in (1, 2, 3):
        repository.check(number)
        assert all(number in held for held in loaded(triton))


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_change_is_announced_before_anything_is_unloaded(
    repository: Repository, triton: Table, controller: Controller
) -> None:
    heard: list[tuple[int, int]] = []

    def hear() -> None:
        heard.append((len(History(repository.root).changes()), len(triton.loads)))
        with repository.lock(STATE, "nobody holds it up"):
            pass

    told = replace(controller, announce=hear)
    told.restore()
    for number in (2, 3):
        told.load(number)
        heard.clear()
        loads = len(triton.loads)
        told.promote(number)
    assert (2, loads) in heard and len(triton.loads) > loads


def test_a_promotion_is_refused_when_a_rollback_overtakes_it(
    controller: Controller, repository: Repository, triton: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.restore()
    controller.load(2)
    controller.promote(2)
    controller.load(3)
    prove = triton.prove

    def overtaken(model: str, version: int, config: object) -> None:
        if version == 3:
            monkeypatch.setattr(triton, "prove", prove)
            controller.rollback()
        prove(model, version, config)

    monkeypatch.setattr(triton, "prove", overtaken)
    with pytest.raises(ReleaseError, match="changed meanwhile"):
        controller.promote(3)
    assert (repository.live(), repository.fallback()) == (1, 2)


def test_a_triton_that_is_slow_does_not_hold_up_a_rollback(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    lines: list[str] = []
    told = Controller(repository, [triton], lines.append)
    controller.restore()
    controller.load(2)
    controller.promote(2)
    triton.hangs.append(("denoiser", 1))
    told.rollback()
    assert repository.live() == 1
    assert "warning: denoiser of triton:8001 did not answer in time; release 1 is taken to be loaded there" in lines
