"""Draws pictures outside the product: DDIM with classifier-free guidance, for sheets and measurements.

The product's own loop is the generation service's.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
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
    schedule: DDIMScheduler | None = None,
) -> Tensor:
    """Latents (B, 4, S, S) for text states (B, 77, D), from this starting noise (B, 4, S, S).

    `schedule` is the family's; without it, Stable Diffusion's.
    """
    scheduler = DDIMScheduler.from_config((schedule or noise_schedule()).config)
    scheduler.set_timesteps(steps)
    latents = noise
    for t in scheduler.timesteps.to(noise.device):
        at = t.repeat(len(latents))
        negative = unconditional(latents, at, negative_text)
        positive = conditional(latents, at, text)
        eps = negative + guidance * (positive - negative)
        latents = scheduler.step(eps, t, latents).prev_sample
    return latents


@torch.inference_mode()
def to_images(vae: AutoencoderKL, latents: Tensor, batch_size: int = 100) -> np.ndarray:
    """The pictures of scaled latents (N, 4, S, S), uint8 (N, H, W, 3)."""
    parts = (latents / vae.config.scaling_factor).split(batch_size)
    pixels = torch.cat([vae.decode(part).sample.cpu() for part in parts])
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).numpy()
