"""From an order to pictures: the models in sequence, the candidates in one batch, one release throughout.

It knows each model's tensors. It does not know where models run, nor the use of the pictures.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy import float32, uint8
from numpy.typing import NDArray

from contract import tracing
from contract.release import Release
from contract.wishes import with_wishes
from services.generation.denoising import PredictNoise, denoise
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order, Progress, Settings, User
from services.generation.pictures import encode_png
from services.generation.samplers import SAMPLERS, Latents, cumulative_alphas
from services.generation.seeds import noise_of
from services.generation.stepping import Turn
from services.generation.wishing import TextStates, blended, wishes_of
from services.runtime.patience import outlasting
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Array, Models, usable

MODELS = ("text_encoder", "denoiser", "vae_decoder", "vae_encoder")


@dataclass(frozen=True)
class Painted:
    """The finished pictures, all in seed order."""

    seeds: tuple[int, ...]
    wishes: tuple[tuple[str, ...], ...]
    pngs: tuple[bytes, ...]


@dataclass(frozen=True)
class Texts:
    """The denoiser's text inputs."""

    positive: NDArray[float32]  # (B, T, D)
    negative: TextStates  # (T, D)


class Painter:
    """Paints one order at a time per call; calls may run side by side, and share the denoiser by their turns."""

    def __init__(self, models: Models, tokenizers: Tokenizers, metrics: GenerationMetrics) -> None:
        self._models = models
        self._tokenizers = tokenizers
        self._metrics = metrics
        self._empty: dict[int, TextStates] = {}  # of the empty prompt by release: most orders have no negative one

    async def paint(
        self, order: Order, seeds: Sequence[int], user: User, release: Release, turn: Turn
    ) -> AsyncGenerator[Progress | Painted]:
        """Paints the candidates of these seeds; yields after every step, and the pictures at the end.

        From the first step on, a server that is gone is waited for, within the deadline: the latents are here, so the
        round goes on with the step that failed, and the pictures are the same.
        """
        settings, schedule, sizes = order.settings, release.manifest.noise_schedule, release.sizes
        alphas = cumulative_alphas(
            schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end, schedule.beta_schedule
        )
        sampler = SAMPLERS[settings.sampler](alphas, settings.num_steps, settings.strength or 1.0)
        wished = wishes_of(order, user, release, seeds, self._tokenizers.generator(release).unread)
        noise = noise_of(seeds, (sizes.latent_channels, sizes.latent_size, sizes.latent_size))  # (B, C, S, S)
        start = sampler.start(noise, await self._reference_latents(order, release))
        predict = self._denoiser(order.settings, user, await self._texts(order, wished, release), release, turn)
        latents = start
        previews: tuple[bytes, ...] = ()
        async with aclosing(denoise(sampler, start, predict)) as steps:
            async for done in steps:
                latents, previews = done.latents, ()
                if order.preview_every_n_steps and done.step % order.preview_every_n_steps == 0:
                    previews = await self._pictures(done.predicted_x0, release)
                yield Progress(done.step, done.num_steps, previews)
        # After the last step nothing is foreseen any more: its previews are the pictures.
        yield Painted(tuple(seeds), tuple(wished), previews or await self._pictures(latents, release))

    async def _reference_latents(self, order: Order, release: Release) -> Latents | None:
        """None where nothing of a reference is kept: a strength of 1 begins at noise alone, as without one."""
        if order.reference is None or order.settings.strength == 1:
            return None
        image: NDArray[uint8] = order.reference[np.newaxis]  # (1, H, W, 3)
        latents = (await self._models.infer("vae_encoder", {"image": image}, release.number))["latents"]
        return latents  # (1, C, S, S), broadcast over the candidates

    async def _texts(self, order: Order, wished: Sequence[Sequence[str]], release: Release) -> Texts:
        """Text states of every candidate with its wishes, encoded in one call and weighted by the adapter scale."""
        prompts = [with_wishes(order.prompt, of_candidate) for of_candidate in wished]
        states = await self._read([order.prompt, *prompts, order.negative_prompt], release)
        plain, scale = states[order.prompt], order.settings.adapter_scale
        positive = np.stack([blended(plain, states[prompt], scale) for prompt in prompts])
        return Texts(positive, states[order.negative_prompt])

    async def _read(self, texts: Sequence[str], release: Release) -> dict[str, TextStates]:
        """The text encoder's states of each distinct text, in one call."""
        known = {"": self._empty[release.number]} if release.number in self._empty else {}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        ids = self._tokenizers.generator(release).encode(fresh)  # (N, T)
        answer = await self._models.infer("text_encoder", {"input_ids": ids}, release.number)
        shape = (len(fresh), release.sizes.text_tokens, release.sizes.text_width)
        states = known | dict(zip(fresh, usable(answer, "text_encoder", "hidden", shape), strict=True))
        if "" in fresh:
            self._empty[release.number] = states[""].copy()  # the rest of its batch is not kept
        return states

    def _denoiser(self, settings: Settings, user: User, texts: Texts, release: Release, turn: Turn) -> PredictNoise:
        """Predicts noise for these texts; inputs that are the same at every step are prepared once."""
        batch = len(texts.positive)
        fixed: dict[str, Array] = {
            "text": texts.positive,  # (B, T, D)
            "negative_text": _repeated(texts.negative, batch),  # (B, T, D)
            "user": _repeated(user.generator, batch),  # (B, d)
            "guidance": np.full((batch, 1), settings.guidance_scale, float32),
            "adapter_scale": np.full((batch, 1), settings.adapter_scale, float32),
        }
        latency_s = self._metrics.step_latency_s.labels(settings.sampler)

        async def predict(latents: Latents, timestep: int) -> Latents:
            started = time.monotonic()
            changing: dict[str, Array] = {"latents": latents, "timestep": np.full((batch, 1), timestep, np.int64)}
            with outlasting():
                noise = await turn.noise(changing | fixed, release.number)
            latency_s.observe(time.monotonic() - started)
            return noise

        return predict

    async def _pictures(self, latents: Latents, release: Release) -> tuple[bytes, ...]:
        with tracing.span("decode", {"perfusion.rows": len(latents)}):
            with outlasting():
                images = (await self._models.infer("vae_decoder", {"latents": latents}, release.number))["image"]
            return await asyncio.to_thread(lambda: tuple(encode_png(image) for image in images))  # image: (H, W, 3)


def _repeated(sample: NDArray[float32], batch: int) -> NDArray[float32]:
    """The same sample for every candidate."""
    return np.repeat(sample[np.newaxis].astype(float32, copy=False), batch, axis=0)
