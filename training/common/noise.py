"""The forward process of diffusion: the noise schedule, noising, and the noise levels of training.

Every training of a U-Net or an adaptive network uses it. Knows nothing of models or objectives.
"""

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from training.common.recipes import Levels

NUM_TRAIN_TIMESTEPS = 1000
COARSE = 200, 960
LEVEL_MEAN, LEVEL_STD = 0.25, 1.1  # of the logit-normal law


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def add_noise(z_0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """z_t = √ᾱ_t · z_0 + √(1 − ᾱ_t) · ε for latents (B, …) and ᾱ_t (B,)."""
    a = alpha_bar_t.view(-1, *[1] * (z_0.ndim - 1))
    return a.sqrt() * z_0 + (1 - a).sqrt() * eps


def draw_levels(levels: Levels, count: int, generator: torch.Generator) -> Tensor:
    """Noise levels t, int64 (count,) in [0, 1000).

    `logit_normal` is t = 1000 · sigmoid(N(mean, std)), after Esser et al., "Scaling Rectified Flow
    Transformers" (2024): the middle levels, which decide a picture's content, occur more often. `coarse` is uniform
    over those at which a single step's prediction is a picture, and still depends on the prompt.
    """
    if levels == "coarse":
        return torch.randint(*COARSE, (count,), generator=generator)
    if levels == "uniform":
        return torch.randint(NUM_TRAIN_TIMESTEPS, (count,), generator=generator)
    level = LEVEL_MEAN + LEVEL_STD * torch.randn(count, generator=generator)
    return (NUM_TRAIN_TIMESTEPS * level.sigmoid()).long().clamp(max=NUM_TRAIN_TIMESTEPS - 1)


def predicted_original(z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """ẑ_0 = (z_t − √(1 − ᾱ_t)·ε) / √ᾱ_t for latents (B, …) and ᾱ_t (B,)."""
    a = alpha_bar_t.view(-1, *[1] * (z_t.ndim - 1))
    return (z_t - (1 - a).sqrt() * eps) / a.sqrt()


def ddim_step(z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The law of z_s for s < t: its mean (B, …) and standard deviation (B, 1, …); Song et al. (2021), Eq. 12 and 16."""
    a, b = (alpha.view(-1, *[1] * (z_t.ndim - 1)) for alpha in (alpha_bar_t, alpha_bar_s))
    std = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
    return b.sqrt() * predicted_original(z_t, eps, alpha_bar_t) + (1 - b - std**2).clamp(min=0).sqrt() * eps, std
