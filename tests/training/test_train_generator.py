"""Training the adapter: exact arithmetic, exact resumption, and a preference that is learnt."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.groups import GroupError, GroupTensors
from training.family import FamilyPaths
from training.generator_recipes import GeneratorRecipe
from training.generator_step import Batch, noise_errors
from training.loop import Diverged
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.noise import add_noise
from training.objectives import eps_mse
from training.random_family import make_loud
from training.train_generator import GeneratorData, Stage, train_stage

RECIPE = GeneratorRecipe("group", steps=6, lr=1e-3, groups_per_batch=4, warmup_steps=1, held_out=4)


@pytest.fixture
def groups(schema) -> GroupTensors:
    """Style decides: minimalists pick dark latents, luxury picks bright ones."""
    rng = np.random.default_rng(0)
    n, k = 24, 3
    features = np.stack([rng.integers(1, 3, n), rng.integers(0, 4, n), rng.integers(0, 4, n), rng.integers(0, 5, n)])
    latents = rng.normal(size=(n, k, 4, 8, 8)) * 0.1
    brightness = np.linspace(-1, 1, k)[None, :, None, None, None]
    selected = np.zeros((n, k), bool)
    selected[np.arange(n), np.where(features[0] == 1, 0, k - 1)] = True
    ids = rng.integers(0, 250, (n, 2, 77))
    return GroupTensors(schema, features.T.copy(), selected, ids, latents=(latents + brightness).astype(np.float16))


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(3)
    selected = torch.tensor([[True, False, False], [False, True, True]])
    users = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])
    z_0, text, eps = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 77, 12), torch.randn(2, 4, 8, 8)
    return Batch(z_0, text, users, selected, ~selected, torch.tensor([10, 700]), eps)


def test_errors_are_those_of_the_whole_unet_with_and_without_residuals(unet, schema, batch) -> None:
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
    alphas_bar = torch.linspace(0.999, 0.01, 1000)
    errors = noise_errors(unet, network, batch, alphas_bar)
    for g in range(2):
        for k in range(3):
            t, eps = batch.t[g : g + 1], batch.eps[g : g + 1]
            z_t = add_noise(batch.z_0[g, k : k + 1], eps, alphas_bar[t])
            text = batch.text[g : g + 1]
            added = network(z_t, t, text, batch.features[g : g + 1])
            personal = unet(
                z_t, t, text, down_block_additional_residuals=added.skips, mid_block_additional_residual=added.middle
            )
            torch.testing.assert_close(errors.policy[g, k], eps_mse(eps, personal.sample)[0])
            torch.testing.assert_close(errors.reference[g, k], eps_mse(eps, unet(z_t, t, text).sample)[0])
    assert errors.policy.requires_grad and not errors.reference.requires_grad


def test_the_first_loss_is_the_log_of_the_group_size(family: FamilyPaths, groups: GroupTensors) -> None:
    stage = Stage(RECIPE, groups, family, None)
    row = stage.step(0)
    assert row["loss"] == pytest.approx(math.log(3), rel=1e-5)
    assert row["winner"] == pytest.approx(row["reference"]) and row["accuracy"] == 0.5
    assert row["grad_norm"] > 0


def test_an_interrupted_training_ends_in_the_same_weights(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path
) -> None:
    whole = PersonalisedAdaptiveNetwork.load(
        train_stage(RECIPE, groups, family, tmp_path / "whole"), family.unet()
    ).state_dict()
    stage = Stage(RECIPE, groups, family, None)
    interrupted(stage, tmp_path / "halves", at=3)
    halves = PersonalisedAdaptiveNetwork.load(
        train_stage(RECIPE, groups, family, tmp_path / "halves"), family.unet()
    ).state_dict()
    assert all(torch.equal(value, halves[name]) for name, value in whole.items())


def interrupted(stage: Stage, out: Path, at: int) -> None:
    """Run the stage until somebody stops it."""
    from training.loop import fit

    def step(n: int) -> dict[str, float]:
        if n == at:
            raise KeyboardInterrupt
        return stage.step(n)

    with pytest.raises(KeyboardInterrupt):
        fit(out, RECIPE.steps, step, stage.state(), save_every_s=0.0)


def test_sft_then_group_learns_whom_to_please(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"lr": 3e-3, "ema": 0.0, "feature_dropout": 0.0}
    start = train_stage(replace(RECIPE, objective="sft", **quick), groups, family, tmp_path / "sft")
    stage = Stage(replace(RECIPE, steps=40, kappa=50.0, **quick), groups, family, start)
    again = stage.data.batch(0)
    monkeypatch.setattr(stage.data, "batch", lambda _: again)  # a U-Net of random weights generalises to nothing
    rows = [stage.step(n) for n in range(stage.recipe.steps)]
    assert rows[-1]["loss"] < 0.5 * math.log(3) and rows[-1]["accuracy"] > 0.9


def test_sft_sees_picked_images_only_and_the_user(family: FamilyPaths, groups: GroupTensors) -> None:
    data = GeneratorData(groups, family, replace(RECIPE, objective="sft"), torch.device("cpu"))
    batch = data.batch(0)
    assert batch.selected.shape == (4, 1) and batch.selected.all()
    bright = batch.z_0.mean((1, 2, 3, 4)) > 0
    assert torch.equal(bright, batch.features[:, 0] == 2) or (batch.features[:, 0] == 0).any()


def test_a_batch_depends_on_its_step_alone(family: FamilyPaths, groups: GroupTensors) -> None:
    first, second = (GeneratorData(groups, family, RECIPE, torch.device("cpu")) for _ in range(2))
    second.batch(0)
    a, b = first.batch(3), second.batch(3)
    assert torch.equal(a.eps, b.eps) and torch.equal(a.z_0, b.z_0) and torch.equal(a.text, b.text)
    assert not torch.equal(a.eps, first.batch(4).eps)


def test_winners_that_get_much_worse_stop_the_training(family: FamilyPaths, groups: GroupTensors) -> None:
    assert Stage(RECIPE, groups, family, None).measure(RECIPE.steps - 1)["held_out_accuracy"] == 0.5
    with pytest.raises(Diverged, match="error on winners"):
        Stage(replace(RECIPE, divergence=0.5), groups, family, None).measure(RECIPE.steps - 1)


def test_latents_that_are_not_finite_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    assert groups.latents is not None
    groups.latents[:] = np.nan
    with pytest.raises(GroupError, match="NaN"):
        GeneratorData(groups, family, RECIPE, torch.device("cpu")).batch(0)


def test_distillation_learns_whom_the_wishes_are_from(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    by_style = rng.integers(0, 250, (3, 77))
    wished = replace(groups, wished_ids=by_style[groups.features[:, 0]])
    recipe = replace(RECIPE, objective="distil", steps=60, lr=3e-3, ema=0.0, feature_dropout=0.0, groups_per_batch=16)
    stage = Stage(recipe, wished, family, None)
    rows = [stage.step(n) for n in range(recipe.steps)]
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.8 * first


def test_distillation_without_wishes_is_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="these groups have none"):
        GeneratorData(groups, family, replace(RECIPE, objective="distil"), torch.device("cpu"))
