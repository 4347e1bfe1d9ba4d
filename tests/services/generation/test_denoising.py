"""The loop: every step once, in order, and none after somebody stopped it."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from services.generation.denoising import NotFinite, denoise
from services.generation.samplers import Ddim, Latents, cumulative_alphas

ALPHAS = cumulative_alphas(1000, 0.00085, 0.012, "scaled_linear")
START = np.ones((2, 4, 2, 2), np.float32)


class Denoiser:
    """Counts its calls."""

    def __init__(self) -> None:
        self.timesteps: list[int] = []

    async def __call__(self, latents: Latents, timestep: int) -> Latents:
        self.timesteps.append(timestep)
        await asyncio.sleep(0)
        return latents * 0.5


async def test_it_yields_after_every_step() -> None:
    denoiser, sampler = Denoiser(), Ddim(ALPHAS, 4)
    steps = [done async for done in denoise(sampler, START, denoiser)]
    assert [(done.step, done.num_steps) for done in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert denoiser.timesteps == sampler.timesteps
    np.testing.assert_allclose(steps[-1].latents, steps[-1].predicted_x0, atol=1e-6)  # no noise is left


async def test_nothing_runs_after_the_caller_stops_asking() -> None:
    denoiser = Denoiser()
    async with aclosing(denoise(Ddim(ALPHAS, 50), START, denoiser)) as steps:
        async for done in steps:
            if done.step == 3:
                break
    await asyncio.sleep(0.01)
    assert len(denoiser.timesteps) == 3


async def test_cancellation_ends_it_within_the_step_under_way() -> None:
    denoiser = Denoiser()

    async def run() -> None:
        async for _ in denoise(Ddim(ALPHAS, 50), START, denoiser):
            pass

    task = asyncio.create_task(run())
    while len(denoiser.timesteps) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(denoiser.timesteps) <= 3


async def test_numbers_that_are_not_finite_end_it() -> None:
    async def broken(latents: Latents, timestep: int) -> Latents:
        return latents * np.float32("nan")

    with pytest.raises(NotFinite):
        async for _ in denoise(Ddim(ALPHAS, 2), START, broken):
            pass
