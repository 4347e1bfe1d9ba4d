"""The loop from noise to clean latents. It knows a sampler and a function that predicts noise; no model, no transport.

It is an asynchronous generator: if its consumer stops or is cancelled, the work stops at the current step.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from services.generation.samplers import Latents, Sampler

# Noise in the latents at a timestep; both (B, C, S, S).
PredictNoise = Callable[[Latents, int], Awaitable[Latents]]


@dataclass(frozen=True)
class Denoised:
    """The state after a step."""

    step: int  # from 1
    num_steps: int
    latents: Latents
    predicted_x0: Latents


class NotFinite(ArithmeticError):
    """The denoiser returned numbers that are not finite; no picture can be made from them."""


async def denoise(sampler: Sampler, latents: Latents, predict_noise: PredictNoise) -> AsyncGenerator[Denoised]:
    """Runs every step, yielding after each."""
    num_steps = len(sampler.timesteps)
    for index, timestep in enumerate(sampler.timesteps):
        noise = await predict_noise(sampler.scale(latents, index), timestep)
        if not np.isfinite(noise).all():
            raise NotFinite(f"noise at timestep {timestep} is not finite")
        stepped = sampler.step(noise, latents, index)
        latents = stepped.latents
        yield Denoised(index + 1, num_steps, latents, stepped.predicted_x0)
