"""SPO: the levels of its steps, the pairs of one state, and the ratios that they begin with."""

from dataclasses import replace

import torch

from tests.training.generator.bright import CPU, SPO, Bright
from training.common.noise import noise_schedule
from training.generator.spo import Pairs, StepLevels, draw_pairs, log_ratios
from training.generator.spo_training import untrained_critic
from training.models.family import FamilyPaths
from training.models.policies import TunedUNet


def test_levels_are_those_of_diffusers_scheduler() -> None:
    scheduler = noise_schedule()
    scheduler.set_timesteps(10)
    levels = StepLevels.of(noise_schedule(), 10, CPU)
    assert levels.t.tolist() == scheduler.timesteps.tolist()
    assert levels.s.tolist() == [*levels.t.tolist()[1:], 0]
    assert torch.equal(levels.alpha_bar_t, scheduler.alphas_cumprod[levels.t])
    assert levels.alpha_bar_s.tolist() == [*levels.alpha_bar_t.tolist()[1:], scheduler.final_alpha_cumprod.item()]


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


def _same(pairs: Pairs, step: int) -> list[bool]:
    """Of which prompts the winner of this step is the next one's state."""
    winners, states = pairs.rows(pairs.step == step).winner, pairs.rows(pairs.step == step + 1).z_t
    return [torch.equal(winner, state) for winner, state in zip(winners, states, strict=True)]
