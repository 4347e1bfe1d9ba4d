"""The command that evaluates generators: families side by side, several reward models, refusals before work."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.feature_schema import FeatureSchema
from training.generator.evaluate import main
from training.models.family import FamilyPaths


def test_the_command_compares_a_family_with_another_by_several_reward_models(
    table: Path,
    quick: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = quick.reward.parent
    bare = tmp_path / "bare family"
    shutil.copytree(weights, bare, ignore=shutil.ignore_patterns("adapter", "preferences", "perfusion_rm"))
    shutil.copytree(quick.perfusion_rm, tmp_path / "run" / "perfusion_rm")
    rewards = [str(weights), str(tmp_path / "run")]
    command = ["evaluate", "--data", str(table), "--weights", str(weights), "--reward", *rewards]
    small = ["--groups", "6", "--candidates", "2"]
    out = tmp_path / "numbers" / "generator.json"
    for baseline in ([], ["--baseline", str(bare)]):
        monkeypatch.setattr(sys, "argv", [*command, *small, *baseline, "--out", str(out)])
        assert main() == 0
    found = json.loads(out.read_text())
    assert list(found["rewards"]) == [f"perfusion_rm of {run}" for run in rewards]
    first, second = found["rewards"].values()
    assert first == second and first["difference"]["mean"] != 0
    assert first["difference"]["low"] <= first["difference"]["mean"] <= first["difference"]["high"]
    told = capsys.readouterr().out
    assert told.count("\n6 groups of ") == 2  # each report once
    assert told.count(f"{table}: 16 groups of 48 candidates") == 2  # a preparation's, too


def test_a_table_of_another_schema_is_refused_at_once(
    table: Path,
    family: FamilyPaths,
    schema: FeatureSchema,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace(schema, features=schema.features[:2]).write(table / "feature_schema.json")
    weights = str(family.reward.parent)
    monkeypatch.setattr(sys, "argv", ["e", "--data", str(table), "--weights", weights, "--reward", weights])
    assert main() == 1
    assert "the feature 'years_open' is missing" in capsys.readouterr().err
    assert not Path("build").exists()
