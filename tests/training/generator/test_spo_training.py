"""Training by SPO: a preference that is learnt, and two stages that resume."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.generator.bright import CPU, SPO, Bright
from training.common.errors import TopologyError
from training.common.loop import fit
from training.data.groups import GroupTensors
from training.generator.spo_recipes import SpoRecipes, StepAwareRecipe
from training.generator.spo_training import SpoTraining, StepAwareTraining, train, untrained_critic
from training.generator.train_spo import main
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet

RECIPE = SpoRecipes(StepAwareRecipe(steps=2, groups_per_batch=4, lr=1e-3, warmup_steps=1), SPO)


@pytest.fixture
def groups(schema) -> GroupTensors:
    rng = np.random.default_rng(0)
    n, k = 12, 3
    selected = np.zeros((n, k), bool)
    selected[:, 0] = True
    latents = rng.normal(size=(n, k, 4, 8, 8)).astype(np.float16)
    return GroupTensors(schema, np.ones((n, 4), np.int64), selected, rng.integers(0, 250, (n, 2, 77)), latents=latents)


def test_a_few_rounds_move_pictures_to_what_the_critic_likes(family: FamilyPaths, groups: GroupTensors) -> None:
    recipe = replace(SPO, rounds=8, lr=1e-3)
    run = SpoTraining(recipe, groups, family, None, untrained_critic(family, CPU))
    run.critic = Bright(run.critic.model)
    first = run.step(0)["score"]
    for n in range(1, recipe.rounds):
        run.step(n)
    later = run.step(0)  # the same prompts and noise again
    assert later["score"] > first + 0.05 * abs(first) and later["pairs"] == 12


def test_both_stages_resume_and_leave_a_unet(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    whole = load_unet(train(RECIPE, groups, family, tmp_path / "whole")).state_dict()
    start = family.unet().state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in whole.items())
    train(replace(RECIPE, spo=replace(SPO, rounds=1)), groups, family, tmp_path / "halves")
    half = torch.load(tmp_path / "halves" / "spo" / "checkpoint.pt", weights_only=False)
    assert half["step"] == 1
    run = SpoTraining(SPO, groups, family, None, loaded_critic(family, tmp_path / "halves"))
    fit(tmp_path / "resumed", 2, run.step, run.state())
    ended = run.policy.unet.state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in whole.items())


def loaded_critic(family: FamilyPaths, out: Path):
    critic = untrained_critic(family, CPU)
    critic.model.load_state_dict(load_file(out / "step_aware" / "model.safetensors"))
    return critic


def test_latents_of_another_size_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    small = replace(groups, latents=np.asarray(groups.latents)[..., :4, :4])
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        StepAwareTraining(RECIPE.step_aware, small, family, None)
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        SpoTraining(SPO, small, family, None, untrained_critic(family, CPU))


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "features.npy").touch()  # passes for arrays until they are read
    monkeypatch.setattr(sys, "argv", ["train_spo", "--data", str(tmp_path), "--out", str(tmp_path / "file" / "run")])
    assert main() == 1
    assert "file/run cannot be made: Not a directory" in capsys.readouterr().err
