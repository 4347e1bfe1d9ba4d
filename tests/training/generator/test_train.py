"""The command that trains generators: what it refuses before work, what it writes, and how a run goes on."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.feature_schema import FeatureSchema
from training.data.groups import GroupTensors
from training.generator.train import main
from training.models.family import FamilyPaths

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    groups: GroupTensors,
    family: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command's exit status, output and refusal, on groups in a folder with a space."""
    groups.save(tmp_path / "my groups")

    def call(*more: str) -> tuple[int, str, str]:
        where = ["--data", str(tmp_path / "my groups"), "--out", str(tmp_path / "my run")]
        how = ["--weights", str(family.reward.parent), "--groups-per-batch", "4", "--sheet-every", "0"]
        monkeypatch.setattr(sys, "argv", ["train", *where, *how, *more])
        code = main()
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_only_what_was_written_is_told(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("--recipe", "tiny", "--stages", "sft", "--steps", "1")
    written = [line for line in out.splitlines() if "written to" in line]
    assert code == 0 and written == [f"adapter written to {tmp_path / 'my run/sft/adapter'}"]
    assert (tmp_path / "my run/sft/adapter/origin.json").is_file()


def test_a_run_goes_on_with_more_steps_and_other_parts_where_that_is_the_same_run(run: Run, tmp_path: Path) -> None:
    steady = ("--recipe", "paper", "--no-bf16", "--no-checkpoint-gradients", "--stages", "dpo")
    assert run(*steady, "--accumulate", "1", "--steps", "1")[0] == 0
    assert run(*steady, "--accumulate", "2", "--steps", "2")[0] == 0
    log = (tmp_path / "my run/dpo/log.jsonl").read_text()
    assert log.count("\n") == 2
    code, _, told = run(*steady, "--accumulate", "2", "--steps", "1")
    assert code == 1 and "has 2 steps already, 1 are asked for" in told


def test_a_falling_rate_has_its_steps_and_says_so_before_any_data_are_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = ("--recipe", "tiny", "--stages", "dpo")
    assert run(*falling, "--steps", "1")[0] == 0
    monkeypatch.setattr("training.data.load.generator_groups", None)  # not called
    code, _, told = run(*falling, "--steps", "2")
    assert code == 1 and "steps was 1 and is 2 (steps: the learning rate falls over all of them)" in told
    code, _, told = run(*falling, "--steps", "1", "--lr", "0.5")
    assert code == 1 and "and is 0.5" in told


def test_an_adapter_of_another_schema_is_refused_before_any_data_are_read(
    run: Run, family: FamilyPaths, schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.load.generator_groups", None)  # not called
    FeatureSchema(schema.features[:2]).write(tmp_path / "my groups/feature_schema.json")
    code, _, told = run("--recipe", "tiny", "--stages", "group", "--start", str(family.adapter))
    assert code == 1 and "the feature 'years_open' is missing" in told and str(family.adapter) in told
