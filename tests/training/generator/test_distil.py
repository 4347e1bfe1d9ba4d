"""The command: from a table to a family, and a refusal in one line."""

import sys
from pathlib import Path

import pytest

from training.generator import trajectories
from training.generator.distil import main
from training.models.family import FamilyPaths

FEW = {
    **{"--trajectories": 1, "--held-out": 1, "--jump-steps": 1, "--way-steps": 1},
    **{"--jumps-per-batch": 1, "--ways-per-batch": 1, "--denoising-steps": 1, "--between": 1},
}


def call(monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    monkeypatch.setattr(sys, "argv", ["distil", *map(str, options)])
    return main()


def test_a_table_gives_a_whole_family(
    table: Path, family: FamilyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectories, "PART", 2)
    whole = family.reward.parent
    assert (
        call(
            monkeypatch,
            "--data",
            table,
            "--weights",
            whole,
            "--out",
            tmp_path / "run",
            *(word for option in FEW.items() for word in option),
        )
        == 0
    )
    made = FamilyPaths.under(tmp_path / "run" / "family")
    made.check_origins()
    told, unet = made.distilled(), made.backbone_unet()
    assert told is not None and told.guidance_scale == 4
    assert made.perfusion(unet) is not None and made.request_defaults().num_steps == 1


def test_a_table_of_another_schema_is_refused_in_one_line(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    family: FamilyPaths,
) -> None:
    schema = table / "feature_schema.json"
    schema.write_text(schema.read_text().replace("luxury", "lush"))
    assert call(monkeypatch, "--data", table, "--weights", family.reward.parent, "--out", tmp_path / "run") == 1
    assert capsys.readouterr().err.startswith("distillation stopped: the feature_schema.json of")
