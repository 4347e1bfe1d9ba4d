"""The denoising loop outside the product: classifier-free guidance and any diffusers scheduler, for sheets and tables.

The product's own loop is the generation service's.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from training.common.noise import noise_schedule

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (latents, timesteps, text) -> noise
Scheduler = DDIMScheduler | DPMSolverMultistepScheduler


@torch.inference_mode()
def sample(
    conditional: Denoise,
    unconditional: Denoise,
    text: Tensor,
    negative_text: Tensor,
    noise: Tensor,
    *,
    guidance: float,
    steps: int = 20,
    scheduler: Scheduler | None = None,
) -> Tensor:
    """Latents (B, C, S, S) from this starting noise (B, C, S, S), for text states (G, 77, D), a row for B/G neighbours.

    `scheduler` is copied, not used up; without one, DDIM on Stable Diffusion's noise schedule.
    """
    given = scheduler or noise_schedule()
    own = type(given).from_config(given.config)
    own.set_timesteps(steps)
    latents = noise
    for t in own.timesteps.to(noise.device):
        at = t.repeat(len(latents))
        negative = unconditional(latents, at, negative_text)
        positive = conditional(latents, at, text)
        eps = negative + guidance * (positive - negative)
        latents = own.step(eps, t, latents).prev_sample
    return latents


@torch.inference_mode()
def to_images(vae: AutoencoderKL, latents: Tensor, batch_size: int = 100) -> np.ndarray:
    """The pictures of scaled latents (N, 4, S, S), uint8 (N, H, W, 3)."""
    parts = (latents / vae.config.scaling_factor).split(batch_size)
    pixels = torch.cat([vae.decode(part).sample.cpu() for part in parts])
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).numpy()
