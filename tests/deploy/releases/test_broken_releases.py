"""A release that is loaded and broken, or that Triton will not load, does not hold up the others."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from contract.errors import InputError
from contract.repository import Repository
from contract.rollout import read_rollout
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from tests.deploy.releases.parts import Table, everywhere, loaded, spoil, write_release

ROLES = {"base": 1, "fallback": 2, "live": 3, "ended trial": 4}
NEW = 5


@pytest.fixture
def serving(controller: Controller, repository: Repository) -> Controller:
    """A controller of a repository in which release 5 is to be loaded beside all ROLES."""
    write_release(repository, NEW)
    controller.restore()
    controller.shares(holdback=0.02, base=1)
    for number in (2, 3):
        controller.load(number)
        controller.promote(number)
    controller.load(4)
    controller.trial(4, 0.5)
    controller.end_trial(4)
    return controller


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def told(serving: Controller, lines: list[str]) -> Controller:
    """The same, that keeps what it says."""
    return replace(serving, say=lines.append)


def restarted(triton: Table) -> None:
    triton.held = {model: {} for model in triton.held}


@pytest.mark.parametrize("role", ROLES)
def test_a_release_is_loaded_beside_one_that_does_not_compute(
    role: str, told: Controller, lines: list[str], triton: Table
) -> None:
    triton.mute.append(("denoiser", ROLES[role]))
    told.load(NEW)
    assert loaded(triton) == everywhere(1, 2, 3, NEW)
    warned = f"warning: release {ROLES[role]} cannot serve: denoiser {ROLES[role]} does not compute"
    assert (warned in lines) == (role != "ended trial"), "nobody is served by that one"


@pytest.mark.parametrize("role", ROLES)
def test_a_release_is_loaded_beside_one_that_hangs(role: str, serving: Controller, triton: Table) -> None:
    triton.hangs.append(("denoiser", ROLES[role]))
    serving.load(NEW)
    assert loaded(triton) == everywhere(1, 2, 3, NEW)


@pytest.mark.parametrize("role", ["base", "fallback", "live"])
def test_a_triton_that_has_just_started_takes_another_release_than_one_that_it_refuses(
    role: str, serving: Controller, repository: Repository, triton: Table
) -> None:
    restarted(triton)
    triton.refuses.append(("vae_decoder", ROLES[role]))
    serving.load(NEW)
    assert loaded(triton) == everywhere(*{1, 2, 3, NEW} - {ROLES[role]})
    serving.promote(NEW)
    assert (repository.live(), repository.fallback()) == (NEW, 2 if role == "live" else 3)


def test_what_nothing_needs_and_cannot_be_loaded_again_is_dropped_before_a_load(
    serving: Controller, triton: Table
) -> None:
    triton.refuses.append(("denoiser", ROLES["ended trial"]))
    serving.load(NEW)
    assert loaded(triton) == everywhere(1, 2, 3, NEW)


def test_a_fallback_whose_files_are_damaged_holds_up_no_load_and_what_serves_from_memory_does(
    serving: Controller, repository: Repository, triton: Table
) -> None:
    spoil(repository, ROLES["fallback"])
    serving.load(NEW)
    assert loaded(triton) == everywhere(1, 3, NEW)
    spoil(repository, ROLES["base"])
    with pytest.raises(InputError, match="denoiser/1/model.onnx has changed"):
        serving.load(4)
    assert loaded(triton) == everywhere(1, 3, NEW)


@pytest.mark.parametrize("how", ["refused by Triton", "damaged", "deleted"])
def test_a_start_without_the_live_release_loads_the_others_for_a_rollback(
    how: str, serving: Controller, repository: Repository, triton: Table
) -> None:
    live = ROLES["live"]
    restarted(triton)
    if how == "refused by Triton":
        triton.refuses.append(("text_encoder", live))
    elif how == "damaged":
        spoil(repository, live)
    else:
        (repository.release_dir(live) / "manifest.json").unlink()
    with pytest.raises(ReleaseError, match="release 3 cannot serve: .*; rollback, or load and promote another$"):
        serving.restore()
    assert (repository.live(), loaded(triton), read_rollout(repository.root).base) == (live, everywhere(1, 2), 1)
    serving.rollback()
    assert repository.live() == ROLES["fallback"]
    serving.load(4)
    assert loaded(triton) == everywhere(1, 2, 4)


def test_a_start_says_that_what_is_loaded_does_not_compute(
    serving: Controller, repository: Repository, triton: Table
) -> None:
    loads = len(triton.loads)
    triton.mute += [("denoiser", ROLES["live"]), ("denoiser", ROLES["base"])]
    with pytest.raises(ReleaseError, match="release 3 cannot serve: denoiser 3 does not compute"):
        serving.restore()
    assert (len(triton.loads), read_rollout(repository.root).base) == (loads, None)


@pytest.mark.parametrize("step", [lambda c: c.load(NEW), lambda c: c.restore()], ids=["load", "restore"])
def test_an_interrupted_step_puts_back_what_it_loads_and_ends(
    step: Callable[[Controller], None],
    told: Controller,
    lines: list[str],
    triton: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restarted(triton)
    loads: list[str] = []

    def interrupted(model: str, version: int, config: object) -> None:
        loads.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(triton, "prove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(told)
    assert (loads, loaded(triton)) == (["denoiser"], everywhere())
    assert lines[-1] == "interrupted; all models are as they were"


@pytest.mark.parametrize("how", ["mute", "hangs"])
def test_a_live_release_that_does_not_compute_delays_no_promotion_and_is_no_fallback(
    how: str, told: Controller, lines: list[str], repository: Repository, triton: Table
) -> None:
    told.load(NEW)
    getattr(triton, how).append(("denoiser", ROLES["live"]))
    told.promote(NEW)
    assert (repository.live(), repository.fallback(), loaded(triton)) == (NEW, 2, everywhere(1, 2, NEW))
    assert "warning: release 3 does not compute and does not become the fallback" in lines
