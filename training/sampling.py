"""Draws pictures from a U-Net during training: DDIM with classifier-free guidance.

For sheets and measurements while training only; the product's loop is the generation service's.
"""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from torch import Tensor

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (latents, timesteps, text) -> noise


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


@torch.inference_mode()
def ddim(
    conditional: Denoise,
    unconditional: Denoise,
    text: Tensor,
    negative_text: Tensor,
    noise: Tensor,
    *,
    guidance: float,
    steps: int = 20,
) -> Tensor:
    """Latents (B, 4, S, S) for text states (B, 77, D), from this starting noise (B, 4, S, S)."""
    scheduler = noise_schedule()
    scheduler.set_timesteps(steps)
    latents = noise
    for t in scheduler.timesteps:
        at = t.repeat(len(latents))
        negative = unconditional(latents, at, negative_text)
        positive = conditional(latents, at, text)
        eps = negative + guidance * (positive - negative)
        latents = scheduler.step(eps, t, latents).prev_sample
    return latents
