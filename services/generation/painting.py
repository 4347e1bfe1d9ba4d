"""From an order to pictures: the models in their order, all candidates in one batch, one release throughout.

It knows which tensors each model wants. It does not know where models run, nor what becomes of the pictures.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy import float32, uint8
from numpy.typing import NDArray

from services.generation.denoising import PredictNoise, denoise
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order, Progress, User
from services.generation.pictures import encode_png
from services.generation.schedulers import SAMPLERS, Latents, cumulative_alphas
from services.generation.seeds import candidate_seeds, choice_noise_of, noise_of
from services.generation.tokenizer import Tokenizers
from services.runtime.release import Release
from services.runtime.triton import Array, Models

MODELS = ("text_encoder", "denoiser", "vae_decoder", "vae_encoder")


@dataclass(frozen=True)
class Painted:
    """The finished pictures, PNG, in seed order."""

    seeds: tuple[int, ...]
    pngs: tuple[bytes, ...]


class Painter:
    """Paints one order at a time per call; calls may run side by side, and Triton batches their steps together."""

    def __init__(self, models: Models, tokenizers: Tokenizers, metrics: GenerationMetrics) -> None:
        self._models = models
        self._tokenizers = tokenizers
        self._metrics = metrics

    async def paint(self, order: Order, user: User, release: Release) -> AsyncGenerator[Progress | Painted]:
        """Yields after every step, and the pictures at the end."""
        settings, schedule = order.settings, release.scheduler
        alphas = cumulative_alphas(
            schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end, schedule.beta_schedule
        )
        sampler = SAMPLERS[settings.scheduler](alphas, settings.num_steps, settings.strength or 1.0)
        seeds = candidate_seeds(settings.seed, order.num_candidates)
        side = release.latent_size
        noise = noise_of(seeds, (release.latent_channels, side, side))  # (B, C, S, S)
        start = sampler.start(noise, await self._reference_latents(order, release))
        predict = await self._denoiser(order, user, release, seeds)
        latents = start
        async with aclosing(denoise(sampler, start, predict)) as steps:
            async for done in steps:
                latents = done.latents
                previews: tuple[bytes, ...] = ()
                if order.preview_every_n_steps and done.step % order.preview_every_n_steps == 0:
                    previews = await self._pictures(done.predicted_x0, release)
                yield Progress(done.step, done.num_steps, previews)
        yield Painted(tuple(seeds), await self._pictures(latents, release))

    async def _reference_latents(self, order: Order, release: Release) -> Latents | None:
        if order.reference is None:
            return None
        image: NDArray[uint8] = order.reference[np.newaxis]  # (1, H, W, 3)
        latents = (await self._models.infer("vae_encoder", {"image": image}, release.number))["latents"]
        return latents  # (1, C, S, S), broadcast over the candidates

    async def _denoiser(self, order: Order, user: User, release: Release, seeds: Sequence[int]) -> PredictNoise:
        """Predicts noise for this order: what is the same at every step is prepared once."""
        ids = self._tokenizers.generator_ids(release, [order.prompt, order.negative_prompt])  # (2, 77)
        hidden = (await self._models.infer("text_encoder", {"input_ids": ids}, release.number))["hidden"]
        settings, batch = order.settings, order.num_candidates
        fixed: dict[str, Array] = {
            "text": _repeated(hidden[0], batch),  # (B, 77, D)
            "negative_text": _repeated(hidden[1], batch),  # (B, 77, D)
            "user": _repeated(user.generator, batch),  # (B, d)
            "guidance": np.full((batch, 1), settings.guidance_scale, float32),
            "adapter_scale": np.full((batch, 1), settings.adapter_scale, float32),
            "choice_noise": choice_noise_of(seeds, release.choice_width),
        }
        latency_s = self._metrics.step_latency_s.labels(settings.scheduler)

        async def predict(latents: Latents, timestep: int) -> Latents:
            started = time.monotonic()
            changing: dict[str, Array] = {"latents": latents, "timestep": np.full((batch, 1), timestep, np.int64)}
            noise = (await self._models.infer("denoiser", changing | fixed, release.number))["noise"]
            latency_s.observe(time.monotonic() - started)
            return noise

        return predict

    async def _pictures(self, latents: Latents, release: Release) -> tuple[bytes, ...]:
        images = (await self._models.infer("vae_decoder", {"latents": latents}, release.number))["image"]
        return await asyncio.to_thread(lambda: tuple(encode_png(image) for image in images))  # image: (H, W, 3)


def _repeated(sample: NDArray[float32], batch: int) -> NDArray[float32]:
    """The same sample for every candidate."""
    return np.repeat(sample[np.newaxis].astype(float32, copy=False), batch, axis=0)
