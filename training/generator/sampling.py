"""The denoising loop of training and lab: classifier-free guidance and any diffusers scheduler.

The product uses the generation service's own loop.
"""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from training.common.noise import noise_schedule

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (latents, timesteps, text) -> noise
Scheduler = DDIMScheduler | DPMSolverMultistepScheduler | EulerDiscreteScheduler


@torch.inference_mode()
def sample(
    conditional: Denoise,
    unconditional: Denoise | None,
    text: Tensor,
    negative_text: Tensor,
    noise: Tensor,
    *,
    guidance: float,
    steps: int = 20,
    scheduler: Scheduler | None = None,
) -> Tensor:
    """Latents (B, C, S, S) from this starting noise (B, C, S, S), for text states (G, 77, D), a row for B/G neighbours.

    `scheduler` is copied, so its state does not change; without one, DDIM on Stable Diffusion's noise schedule. Without
    `unconditional` the noise is `conditional`'s as it is: a distilled U-Net's, for a text that has the guidance.
    """
    given = scheduler or noise_schedule()
    own = type(given).from_config(given.config)
    own.set_timesteps(steps)
    latents = noise * own.init_noise_sigma
    for t in own.timesteps.to(noise.device):
        at, seen = t.repeat(len(latents)), own.scale_model_input(latents, t)
        eps = conditional(seen, at, text)
        if unconditional is not None:
            negative = unconditional(seen, at, negative_text)
            eps = negative + guidance * (eps - negative)
        latents = own.step(eps, t, latents).prev_sample
    return latents


@torch.inference_mode()
def to_images(vae: AutoencoderKL, latents: Tensor, batch_size: int = 100) -> np.ndarray:
    """The pictures of scaled latents (N, 4, S, S), uint8 (N, H, W, 3)."""
    parts = (latents / vae.config.scaling_factor).split(batch_size)
    pixels = torch.cat([vae.decode(part).sample.cpu() for part in parts])
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).numpy()
