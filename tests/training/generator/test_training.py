"""Training a generator: exact arithmetic, exact resumption, and a preference that is learnt."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.common.errors import Diverged, TopologyError, WeightsError
from training.common.loop import ResumeError, fit
from training.common.storage import origin_of, write_origin
from training.data.groups import GroupError, GroupTensors
from training.generator.recipes import STAGES, GeneratorRecipe, Stage, tiny
from training.generator.sampling import sample
from training.generator.train import main
from training.generator.training import Training, check_starts, strangers, train_stage
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import TunedUNet

RECIPE = GeneratorRecipe("group", steps=6, lr=1e-3, groups_per_batch=4, warmup_steps=1, held_out=4, sheet_every=0)


def begin(recipe: GeneratorRecipe, groups: GroupTensors, family: FamilyPaths, start: Path | None = None) -> Training:
    return Training(recipe, groups, family, family.unet(), start)


def test_the_first_loss_is_the_log_of_the_group_size(family: FamilyPaths, groups: GroupTensors) -> None:
    row = begin(RECIPE, groups, family).step(0)
    assert row["loss"] == pytest.approx(math.log(3), rel=1e-5)
    assert row["winner"] == pytest.approx(row["reference"]) and row["accuracy"] == 0.5
    assert row["grad_norm"] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_what_it_should(family: FamilyPaths, groups: GroupTensors, stage: Stage) -> None:
    recipe = replace(tiny(stage), groups_per_batch=4, warmup_steps=1, sheet_every=0)
    run = begin(recipe, groups, family)
    before = {name: p.clone() for name, p in run.policy.named_parameters()}
    row = run.step(0)
    moved = {name.split(".")[0] for name, p in run.policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == ({"unet"} if stage in ("unet_sft", "dpo", "unet_group") else {"network"})
    assert math.isfinite(row["loss"]) and ("reference" in row) == (recipe.objective in ("dpo", "group"))


def test_parts_of_a_batch_add_up_to_the_batch(family: FamilyPaths, groups: GroupTensors) -> None:
    whole, parts = (begin(replace(RECIPE, accumulate=n), groups, family) for n in (1, 3))
    first, second = whole.step(0), parts.step(0)
    assert second == pytest.approx(first, rel=1e-5)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    groups.save(tmp_path / "groups")
    options = ["--steps", "2", "--groups-per-batch", "4", "--stages", "dpo", "group", "--recipe", "tiny"]
    command = ["-m", "training.generator.train", "--data", tmp_path / "groups", "--weights", family.pipeline.parent]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    together = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for out, launcher in (("one", []), ("two", together)):
        whole = [sys.executable, *launcher, *command, "--out", tmp_path / out, *options, "--sheet-every", "0"]
        subprocess.run(whole, check=True, env=environment, timeout=240)
    for stage in ("dpo", "group"):
        logs = [(tmp_path / out / stage / "log.jsonl").read_text().splitlines() for out in ("one", "two")]
        one, two = ([json.loads(line)["loss"] for line in log] for log in logs)
        assert one == pytest.approx(two, rel=1e-5)
    assert not load_unet(tmp_path / "two" / "dpo" / "unet").training
    PersonalisedAdaptiveNetwork.load(
        tmp_path / "two" / "group" / "adapter", load_unet(tmp_path / "two" / "dpo" / "unet")
    )


@pytest.mark.parametrize("trains", ["adapter", "unet"])
def test_an_interrupted_training_ends_in_the_same_weights(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, trains: str
) -> None:
    recipe = replace(RECIPE, trains=trains, steps=4, groups_per_batch=2)
    whole, halves = begin(recipe, groups, family), begin(recipe, groups, family)
    fit(tmp_path / "whole", recipe.steps, whole.step, whole.state())
    interrupted(halves, tmp_path / "halves", at=2)
    resumed = begin(recipe, groups, family)
    fit(tmp_path / "halves", recipe.steps, resumed.step, resumed.state())
    kept = resumed.kept.trained.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in whole.kept.trained.state_dict().items())


def interrupted(run: Training, out: Path, at: int) -> None:
    """Run the stage until somebody stops it."""

    def step(n: int) -> dict[str, float]:
        if n == at:
            raise KeyboardInterrupt
        return run.step(n)

    with pytest.raises(KeyboardInterrupt):
        fit(out, run.recipe.steps, step, run.state(), save_every_s=0.0)


def test_another_recipe_or_unet_does_not_resume(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    train_stage(replace(RECIPE, steps=1), groups, family, tmp_path)
    with pytest.raises(ResumeError, match="kappa"):
        train_stage(replace(RECIPE, steps=1, kappa=3.0), groups, family, tmp_path)
    tuned = TunedUNet(family.unet())
    torch.nn.init.ones_(tuned.trained.conv_in.bias)
    other = tuned.save(tmp_path / "other")
    with pytest.raises(ResumeError, match="unet"):
        train_stage(replace(RECIPE, steps=1), groups, family, tmp_path, unet=other)


def test_what_is_trained_says_with_what_and_goes_on_with_nothing_else(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path
) -> None:
    quick = {"steps": 1, "groups_per_batch": 4, "warmup_steps": 1, "held_out": 4, "sheet_every": 0}
    tuned = train_stage(replace(tiny("dpo"), **quick), groups, family, tmp_path / "unet")
    adapter = train_stage(replace(RECIPE, steps=1), groups, family, tmp_path / "adapter")
    said = [json.loads((part / "origin.json").read_text()) for part in (tuned, adapter)]
    assert said[0] == family.generator_origin()
    assert said[1] == family.generator_origin() | origin_of(family.unet())
    write_origin(tuned, said[0] | {"text_encoder": "another"})
    with pytest.raises(WeightsError, match="unet was trained on the text encoder another"):
        check_starts(tuned, None, tmp_path, family)


def test_a_sheet_shows_the_reference_and_each_user(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.generator.sheets.sample", partial(sample, steps=2))
    train_stage(replace(RECIPE, steps=1, sheet_every=1), groups, family, tmp_path)
    with Image.open(tmp_path / "sheet-00001.png") as sheet:
        assert sheet.size == (5 * 16, 4 * 16)  # four prompts; the reference and four users of 16 × 16 pixels


def test_sft_then_group_learns_whom_to_please(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"lr": 3e-3, "ema": 0.0, "feature_dropout": 0.0}
    start = train_stage(replace(RECIPE, objective="sft", steps=2, **quick), groups, family, tmp_path / "sft")
    run = begin(replace(RECIPE, steps=10, kappa=50.0, **quick), groups, family, start)
    again = run.batches.plan(0)
    monkeypatch.setattr(run.batches, "plan", lambda _: again)  # a U-Net of random weights generalises to nothing
    rows = [run.step(n) for n in range(run.recipe.steps)]
    assert rows[-1]["loss"] < 0.5 * math.log(3) and rows[-1]["accuracy"] > 0.9


def test_a_stranger_is_the_next_user_who_differs() -> None:
    ada, ben, cleo = [1, 2], [3, 0], [1, 0]
    found = strangers(torch.tensor([ada, ada, ben, cleo, ada]))
    assert found is not None and found.tolist() == [ben, ben, cleo, ada, ben]
    assert strangers(torch.tensor([ada, ada])) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--accumulate 0", "accumulate is 0, at least 1"),
        ("--steps 0", "steps is 0, at least 1"),
        ("--seed -1", "seed is -1, at least 0"),
        ("--seed 99999999999999999999", "seed is 99999999999999999999, at most 2147483647"),
        ("--lr nan", "lr is nan, a positive number"),
        ("--stages sft sft", "each stage once; got sft sft"),
        ("--objective listwise", "invalid choice: 'listwise'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_read(
    arguments: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_generator", "--data", "absent", "--out", "out", *arguments.split()])
    try:
        code = main()
    except SystemExit as refused:  # the parser's
        code = refused.code
    assert code in (1, 2)
    assert told in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("file", "features.npy"):  # the second passes for arrays until they are read
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(tmp_path), "--out", str(tmp_path / "file" / "run")])
    assert main() == 1
    assert "file/run cannot be made: Not a directory" in capsys.readouterr().err


def test_winners_that_get_much_worse_stop_the_training(family: FamilyPaths, groups: GroupTensors) -> None:
    assert begin(RECIPE, groups, family).measure(RECIPE.steps - 1)["held_out_accuracy"] == 0.5
    with pytest.raises(Diverged, match="error on winners"):
        begin(replace(RECIPE, divergence=0.5), groups, family).measure(RECIPE.steps - 1)


def test_groups_that_nothing_could_be_measured_on_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="4 groups are too few"):
        begin(RECIPE, groups.rows(slice(0, 4)), family)
    groups.selected[-4:] = False
    with pytest.raises(GroupError, match="none of the last 4 groups, which are held out"):
        begin(RECIPE, groups, family)


def test_latents_of_another_size_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    small = replace(groups, latents=np.asarray(groups.latents)[..., :4, :4])
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        begin(RECIPE, small, family)
