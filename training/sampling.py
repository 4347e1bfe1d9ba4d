"""Draws pictures from a U-Net during training: DDIM with classifier-free guidance.

For sheets and measurements while training only; the product's loop is the generation service's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from training.noise import noise_schedule

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (latents, timesteps, text) -> noise


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
