"""The steps of a release into service: load, promote, roll back, unload, prune; trials: test_controller_trials.py."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InputError
from contract.release import current_file
from contract.repository import CONTROL, STATE, LockedError, Repository
from deploy.local.layout import Layout
from deploy.loop.turn import Plan, Turn, Turning
from deploy.releases import __main__ as command
from deploy.releases import model_config
from deploy.releases.arguments import parse
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError, ServerError
from tests.deploy.releases.parts import MODELS, Table, everywhere, loaded, spoil


def test_a_triton_that_has_just_started_gets_what_the_pointers_say(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    repository.point(2, 1)
    controller.restore()
    assert loaded(triton) == everywhere(1, 2)
    triton.loads.clear()
    controller.restore()
    assert triton.loads == [], "what is loaded is left alone"


def test_the_first_release_of_a_repository_is_promoted_at_the_start(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    current_file(repository.root).unlink()
    controller.restore()
    assert (repository.live(), repository.fallback(), loaded(triton)) == (4, None, everywhere(4))


def test_a_start_does_without_a_fallback_that_is_damaged_or_cannot_be_loaded(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    repository.point(2, 1)
    triton.refuses.append(("vae_decoder", 1))
    controller.restore()
    assert loaded(triton) == everywhere(2)
    (repository.model_dir("denoiser", 1) / "model.onnx").unlink()
    triton.refuses.clear()
    controller.restore()
    assert loaded(triton) == everywhere(2)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", ["refuses", "mute"])
def test_a_load_that_fails_at_any_model_puts_back_those_before(
    controller: Controller, repository: Repository, triton: Table, model: str, how: str
) -> None:
    controller.restore()
    getattr(triton, how).append((model, 2))
    with pytest.raises(ReleaseError, match=f"{model} 2 .*; all models are as they were"):
        controller.load(2)
    assert (loaded(triton), repository.live()) == (everywhere(1), 1)


def test_every_triton_takes_a_step_or_none_does(repository: Repository) -> None:
    both = [Table(), Table(refuses=[("text_encoder", 2)])]
    controller = Controller(repository, both, lambda line: None)
    controller.restore()
    with pytest.raises(ReleaseError, match="text_encoder 2 is no graph"):
        controller.load(2)
    assert [loaded(each) for each in both] == [everywhere(1)] * 2
    controller.load(3)
    both[1].mute.append(("denoiser", 3))
    with pytest.raises(ReleaseError, match="denoiser 3 does not compute$"):
        controller.promote(3)
    assert repository.live() == 1


def test_a_loaded_release_takes_the_place_of_one_that_was_not_promoted(controller: Controller, triton: Table) -> None:
    controller.restore()
    controller.load(2)
    controller.load(3)
    assert loaded(triton) == everywhere(1, 3)


def test_a_promotion_keeps_the_release_before_and_unloads_all_others(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    for number, before in ((2, 1), (3, 2)):
        controller.load(number)
        controller.promote(number)
        assert (repository.live(), repository.fallback()) == (number, before)
        assert loaded(triton) == everywhere(before, number)
    loads = len(triton.loads)
    controller.rollback()
    assert (repository.live(), repository.fallback()) == (2, 3)
    controller.rollback()
    assert (repository.live(), repository.fallback()) == (3, 2)
    assert len(triton.loads) == loads, "there and back without a load"


def test_a_release_is_unloaded_only_when_no_round_is_on_it_any_more(
    controller: Controller, triton: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        controller.load(number)
    controller.promote(2)
    controller.load(3)
    rounds = iter(range(3))

    def sleep(_: float) -> None:
        if next(rounds, None) is not None:
            triton.counts["denoiser", 1] += 1
        assert 1 in triton.versions("denoiser"), "a round is on it"

    monkeypatch.setattr("deploy.releases.tritons.time.sleep", sleep)
    controller.promote(3)
    assert next(rounds, None) is None and loaded(triton) == everywhere(2, 3)


def test_what_serves_is_not_unloaded_and_without_a_fallback_there_is_no_way_back(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    with pytest.raises(ReleaseError, match="there is no release to go back to"):
        controller.rollback()
    with pytest.raises(ReleaseError, match="release 1 is live, the fallback"):
        controller.unload(1)
    controller.load(2)
    controller.unload(2)
    assert loaded(triton) == everywhere(1)
    controller.promote(1)  # it serves already
    assert (repository.live(), repository.fallback()) == (1, None)


def test_a_promotion_is_done_though_what_nothing_needs_cannot_be_unloaded(
    repository: Repository, controller: Controller, triton: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.restore()
    for number in (2, 3):
        controller.load(number)
        controller.promote(number)
    controller.load(4)

    def refused(model: str, config: Any, versions: set[int]) -> None:
        raise ServerError("not now")

    monkeypatch.setattr(triton, "load", refused)
    controller.promote(4)
    assert (repository.live(), repository.fallback()) == (4, 3)
    assert loaded(triton) == everywhere(2, 3, 4)


def test_nothing_is_loaded_beside_a_live_release_whose_files_are_damaged(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    """Triton may load the live one again with the new one: from those files."""
    controller.restore()
    spoil(repository, 1)
    with pytest.raises(InputError, match="denoiser/1/model.onnx has changed"):
        controller.load(2)
    assert loaded(triton) == everywhere(1)


def test_a_triton_with_nothing_loaded_takes_another_release_in_a_damaged_ones_place(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    spoil(repository, 1)
    with pytest.raises(ReleaseError, match="denoiser/1/model.onnx has changed.*; load and promote another"):
        controller.restore()
    controller.load(2)
    controller.promote(2)
    assert (repository.live(), repository.fallback(), loaded(triton)) == (2, None, everywhere(2))


def test_releases_that_nothing_needs_are_pruned_with_what_interrupted_exports_left(
    controller: Controller, repository: Repository, triton: Table
) -> None:
    controller.restore()
    (repository.root / "denoiser" / "9").mkdir()
    (repository.root / "releases" / ".staging-9").mkdir()
    triton.held["denoiser"][3] = "UNLOADING"
    assert controller.prune(1) == [2]
    assert repository.numbers() == [1, 3, 4]
    del triton.held["denoiser"][3]
    assert controller.prune(1) == [3]
    assert sorted(p.name for p in (repository.root / "denoiser").glob("[0-9]*")) == ["1", "4"]
    assert not any((repository.root / "releases").glob(".staging-*"))
    for number in (1, 4):
        repository.check(number)


def test_nothing_is_pruned_while_nobody_can_say_what_is_loaded(
    controller: Controller, repository: Repository, triton: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> dict[str, dict[int, str]]:
        raise ServerError("no Triton answers")

    monkeypatch.setattr(triton, "states", silent)
    with pytest.raises(ReleaseError, match="no Triton answers"):
        controller.prune(1)
    assert repository.numbers() == [1, 2, 3, 4]
    assert controller.prune(1, stopped=True) == [2, 3]


@pytest.mark.parametrize(
    "step",
    [
        lambda controller: controller.load(2),
        lambda controller: controller.promote(2),
        lambda controller: controller.trial(2, 0.5),
        lambda controller: controller.shares(base=2),
        lambda controller: controller.unload(2),
        lambda controller: controller.restore(),
        lambda controller: controller.prune(1),
    ],
)
def test_one_controller_works_at_a_time(
    step: Callable[[Controller], object], controller: Controller, repository: Repository, triton: Table
) -> None:
    with repository.lock(CONTROL, "load 4"), pytest.raises(LockedError, match="is held by load 4"):
        step(controller)
    assert triton.loads == []


def test_a_controller_that_may_waits_for_the_one_at_work_and_says_so_once(
    controller: Controller, repository: Repository
) -> None:
    lines: list[str] = []
    with ExitStack() as other:
        other.enter_context(repository.lock(CONTROL, "revive in local: denoiser"))

        def say(line: str) -> None:
            lines.append(line)
            other.close()  # the other one ends

        replace(controller, say=say, wait_s=60.0).load(2)
    assert lines[0].startswith("waiting up to 60 s for revive in local: denoiser (process ")
    assert lines[1] == "release 2 is whole; loading it beside 1"
    assert sum("waiting" in line for line in lines) == 1


def test_a_change_waits_for_another_as_long_as_the_command_line_says(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["releases", "shares", "--exploration", ".05", "--repository", str(repository.root), "--wait"]
    monkeypatch.setattr("contract.repository.LOCK_WAIT_S", 0.1)
    with ExitStack() as other:
        other.enter_context(repository.lock(STATE, "rollback"))
        monkeypatch.setattr("sys.argv", [*arguments, "0.2"])
        assert command.main() == 1
        assert ".state.lock is held by rollback" in capsys.readouterr().err
        ends = threading.Timer(0.5, other.close)
        ends.start()
        monkeypatch.setattr("sys.argv", [*arguments, "60"])
        assert command.main() == 0
        ends.join()
    assert capsys.readouterr().out.startswith("waiting up to 60 s for rollback (process ")


def test_a_turn_of_the_loop_waits_for_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(Layout("turning", 0, tmp_path), tmp_path, tmp_path, tmp_path)
    commands: list[list[str]] = []
    monkeypatch.setattr(Turning, "command", lambda _, step, module, *given: commands.append([*map(str, given)]))
    turning = Turning(plan, tmp_path, Turn(1, 1, ""), print)
    turning.release("load", "load", "7")
    turning.release("end trial", "end-trial", "--reason", "it is worse")
    for given in commands:
        monkeypatch.setattr("sys.argv", ["releases", *given])
        assert parse("").wait == 120.0


def test_a_contract_of_other_sizes_is_named_by_tensor(controller: Controller, repository: Repository) -> None:
    config = repository.root / "text_encoder" / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 77, 64 ]", "[ 77, 32 ]"))
    with pytest.raises(InputError, match=r"text_encoder: config.pbtxt has hidden \[77, 32\], the release \[77, 64\]"):
        controller.load(2)


def test_a_load_says_the_whole_configuration_with_the_versions(repository: Repository) -> None:
    config = model_config.of_repository(repository.root, "denoiser")
    said = model_config.serving(config, {7, 2})
    assert '"versions": [\n' in said and said.index('"2"') < said.index('"7"') and '"latents"' in said
    assert not config.version_policy.specific.versions, "what was given is not changed"


def test_the_command_refuses_in_one_line(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--triton", "127.0.0.1:1", "--repository"]
    for arguments, told in (
        (["load", "9", *where, str(repository.root)], "load refused: there is no release 9 in"),
        (["promote", "2", *where, str(repository.root)], "no Triton answers at 127.0.0.1:1"),
        (["status", *where, str(repository.root / "none")], "refused: there is no model repository"),
    ):
        monkeypatch.setattr("sys.argv", ["releases", *arguments])
        assert command.main() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
