"""The tiny family's stages: in the documented order, each done once, and a gate that holds."""

import re
import sys
from pathlib import Path

import pytest

import lab.tiny
from lab.pretraining.stages import GateError, Workshop, run
from lab.tiny import STAGES, main
from training.models.family import TINY, FamilyPaths


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """One whose stages only say that they ran."""
    made = Workshop(tmp_path, FamilyPaths.under(tmp_path / "family"), tmp_path / "family")
    ran: list[str] = []
    for name in STAGES:
        stage = getattr(Workshop, name)

        def instead(name: str = name) -> None:
            ran.append(name)

        instead.__doc__ = stage.__doc__
        monkeypatch.setattr(made, name, instead, raising=False)
    made.ran = ran  # type: ignore[attr-defined]
    return made


def test_the_stages_are_documented_in_their_order() -> None:
    assert lab.tiny.__doc__ is not None
    (line,) = re.findall(r"^ +(\w+(?: → \w+)+)", lab.tiny.__doc__, re.MULTILINE)
    assert tuple(line.split(" → ")) == STAGES


def test_every_stage_is_a_method_that_says_what_it_makes() -> None:
    for name in STAGES:
        assert getattr(Workshop, name).__doc__, name
    own = [name for name, value in vars(Workshop).items() if callable(value) and not name.startswith("_")]
    assert tuple(own) == STAGES  # defined in their order, and nothing else is a stage


def test_stages_run_in_order_up_to_the_last_one_asked_for_and_never_twice(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    run(workshop, STAGES[:3])
    assert workshop.ran == ["tokenizer", "judge", "vae"]
    assert "[3/3] vae: " in capsys.readouterr().out
    run(workshop, STAGES)
    assert tuple(workshop.ran) == STAGES
    assert "[1/8] tokenizer: done before" in capsys.readouterr().out


def test_a_stage_that_stopped_is_run_again(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workshop, "judge", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(workshop, STAGES[:2])
    run(workshop, STAGES[:2])
    assert workshop.ran == ["tokenizer", "judge"]


def test_a_vae_below_its_gate_stops_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def below(_: Workshop) -> None:
        raise GateError("the judge reads reconstructions below 0.97: {'trim': 0.9}")

    for name in ("tokenizer", "judge"):
        monkeypatch.setattr(Workshop, name, lambda _: None)
    monkeypatch.setattr(Workshop, "vae", below)
    monkeypatch.setattr(sys, "argv", ["tiny", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    assert main() == 1
    assert "training stopped: the judge reads reconstructions below 0.97" in capsys.readouterr().err
    assert not (tmp_path / "work" / "vae.done").exists()


def test_the_published_family_has_what_the_stages_leave() -> None:
    """And no adapter: its taste is in words."""
    family = FamilyPaths.under(TINY)
    family.check_pipeline()
    for part in (family.backbone, family.reward, family.perfusion_rm, family.preferences):
        assert any(part.glob("*.safetensors")), part
    assert not family.adapter.exists()
    assert family.schema() and family.vocabulary()
