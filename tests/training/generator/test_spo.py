"""SPO: the step-aware preference model, the pairs of one state, the clipped ratios, and a preference that is learnt."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.common.errors import TopologyError
from training.common.loop import fit
from training.common.noise import ddim_step, noise_schedule
from training.common.objectives import step_preference
from training.data.groups import GroupTensors
from training.generator.spo import Pairs, SpoRecipe, StepLevels, draw_pairs, log_ratios
from training.generator.train_spo import (
    Recipe,
    SpoTraining,
    StepAwareRecipe,
    StepAwareTraining,
    train,
    untrained_critic,
)
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import TunedUNet
from training.models.step_aware import StepAwarePreference
from training.reward.baselines.pickscore import PickScore

SPO = SpoRecipe(
    rounds=2, prompts=4, candidates=3, denoising_steps=4, first_step=1, guidance=2.0, threshold=0.0, pairs_per_batch=8
)
RECIPE = Recipe(StepAwareRecipe(steps=2, groups_per_batch=4, lr=1e-3, warmup_steps=1), SPO)
CPU = torch.device("cpu")


@pytest.fixture
def groups(schema) -> GroupTensors:
    rng = np.random.default_rng(0)
    n, k = 12, 3
    selected = np.zeros((n, k), bool)
    selected[:, 0] = True
    latents = rng.normal(size=(n, k, 4, 8, 8)).astype(np.float16)
    return GroupTensors(schema, np.ones((n, 4), np.int64), selected, rng.integers(0, 250, (n, 2, 77)), latents=latents)


class Bright:
    """A critic that likes bright latents; stands for a preference whose direction is known."""

    def __init__(self, like: torch.nn.Module) -> None:
        self.model = like

    def __call__(self, z_0: Tensor, t: Tensor, input_ids: Tensor) -> Tensor:
        return 40 * z_0.mean((2, 3, 4))


def test_a_step_is_that_of_diffusers_scheduler() -> None:
    torch.manual_seed(0)
    scheduler = noise_schedule()
    scheduler.set_timesteps(10)
    z, eps, variance_noise = (torch.randn(2, 4, 8, 8) for _ in range(3))
    levels = StepLevels.of(noise_schedule(), 10, CPU)
    assert levels.t.tolist() == scheduler.timesteps.tolist()
    for i, t in enumerate(scheduler.timesteps):
        expected = scheduler.step(eps, t, z, eta=1.0, variance_noise=variance_noise).prev_sample
        mean, std = ddim_step(z, eps, levels.alpha_bar_t[i : i + 1], levels.alpha_bar_s[i : i + 1], 1.0)
        torch.testing.assert_close(mean + std * variance_noise, expected, rtol=1e-4, atol=1e-4)


def test_ratios_beyond_the_clip_teach_nothing() -> None:
    winner, loser = torch.tensor([0.02, 0.3], requires_grad=True), torch.tensor([-0.03, -0.4], requires_grad=True)
    loss = step_preference(winner, loser, beta=10.0, clip=0.1)
    low, high = math.log(0.9), math.log(1.1)
    expected = [math.log1p(math.exp(-10 * (0.02 + 0.03))), math.log1p(math.exp(-10 * (high - low)))]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    loss.sum().backward()
    assert winner.grad[0] < 0 < loser.grad[0] and winner.grad[1] == loser.grad[1] == 0


def test_the_preference_model_starts_as_its_clip_and_then_hears_the_level(clip) -> None:
    torch.manual_seed(0)
    pixels, ids = torch.randn(2, 3, 3, 32, 32), torch.randint(0, 40, (2, 77))
    model = StepAwarePreference(clip)
    plain = PickScore(clip)(pixels, ids)
    assert torch.equal(model(pixels, torch.tensor([10, 900]), ids), plain)
    for modulation in model.modulations:
        torch.nn.init.normal_(modulation.weight, std=0.1)
    early, late = (model(pixels, torch.full((2,), t), ids) for t in (900, 10))
    assert not torch.allclose(early, late)
    assert torch.equal(PickScore(clip)(pixels, ids), plain)  # no hook is left behind


def test_pairs_are_the_best_and_worst_of_one_state(family: FamilyPaths) -> None:
    policy, text, ids = TunedUNet(family.unet()), torch.randn(4, 77, 12), torch.zeros(4, 77, dtype=torch.long)
    levels = StepLevels.of(family.noise_scheduler(), SPO.denoising_steps, CPU)
    critic = Bright(untrained_critic(family, CPU).model)
    drawn = (policy, critic, text, torch.zeros_like(text), ids, levels, SPO)
    pairs, scores = draw_pairs(*drawn, torch.Generator().manual_seed(1))
    assert scores.shape == (3, 4, 3) and len(pairs) == 12 and pairs.step.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    last = pairs.rows(pairs.step == 3)  # clean latents: what the critic saw
    assert (last.winner.mean((1, 2, 3)) > last.loser.mean((1, 2, 3))).all()
    assert torch.equal(log_ratios(policy, pairs, torch.zeros(1, 77, 12), levels, SPO), torch.zeros(2, 12))
    went_on = [_same(pairs, i) for i in (1, 2)]  # the next state is a random candidate, not always the best
    assert 0 < sum(map(sum, went_on)) < 8
    again, _ = draw_pairs(*drawn, torch.Generator().manual_seed(1))
    assert torch.equal(again.winner, pairs.winner)
    sure = replace(SPO, threshold=1.0)
    assert len(draw_pairs(*drawn[:-1], sure, torch.Generator().manual_seed(1))[0]) == 0


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


def _same(pairs: Pairs, step: int) -> list[bool]:
    """Of which prompts the winner of this step is the next one's state."""
    winners, states = pairs.rows(pairs.step == step).winner, pairs.rows(pairs.step == step + 1).z_t
    return [torch.equal(winner, state) for winner, state in zip(winners, states, strict=True)]


def loaded_critic(family: FamilyPaths, out: Path):
    from safetensors.torch import load_file

    critic = untrained_critic(family, CPU)
    critic.model.load_state_dict(load_file(out / "step_aware" / "model.safetensors"))
    return critic


def test_latents_of_another_size_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    small = replace(groups, latents=np.asarray(groups.latents)[..., :4, :4])
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        StepAwareTraining(RECIPE.step_aware, small, family, None)
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        SpoTraining(SPO, small, family, None, untrained_critic(family, CPU))
