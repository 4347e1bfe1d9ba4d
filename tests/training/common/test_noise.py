"""The forward process and its way back: noising, the noise levels, and one step of DDIM."""

import pytest
import torch

from training.common.noise import (
    NUM_TRAIN_TIMESTEPS,
    add_noise,
    ddim_step,
    draw_levels,
    noise_schedule,
    predicted_original,
)


def test_a_step_is_that_of_diffusers_scheduler() -> None:
    torch.manual_seed(0)
    scheduler = noise_schedule()
    scheduler.set_timesteps(10)
    alphas_bar = scheduler.alphas_cumprod
    z, eps, variance_noise = (torch.randn(2, 4, 8, 8) for _ in range(3))
    for t in scheduler.timesteps:
        expected = scheduler.step(eps, t, z, eta=1.0, variance_noise=variance_noise).prev_sample
        after = t - NUM_TRAIN_TIMESTEPS // 10
        alpha_bar_s = alphas_bar[after] if after >= 0 else scheduler.final_alpha_cumprod
        mean, std = ddim_step(z, eps, alphas_bar[t].view(1), alpha_bar_s.view(1), 1.0)
        torch.testing.assert_close(mean + std * variance_noise, expected, rtol=1e-4, atol=1e-4)


def test_noising_is_diffusers_and_is_predicted_back() -> None:
    torch.manual_seed(0)
    scheduler = noise_schedule()
    z_0, eps, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    alpha_bar_t = scheduler.alphas_cumprod[t]
    z_t = add_noise(z_0, eps, alpha_bar_t)
    torch.testing.assert_close(z_t, scheduler.add_noise(z_0, eps, t))
    torch.testing.assert_close(predicted_original(z_t, eps, alpha_bar_t), z_0, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("levels", ["uniform", "logit_normal"])
def test_levels_are_those_of_the_schedule_and_repeat_with_their_generator(levels) -> None:
    first, again = (draw_levels(levels, 10_000, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= 0 and first.max() < NUM_TRAIN_TIMESTEPS
    middle = ((first > 250) & (first < 750)).float().mean()
    assert bool(middle > 0.55) is (levels == "logit_normal")  # where a picture's content is decided
