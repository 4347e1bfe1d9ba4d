"""The reward model as it runs in Triton.

Knows the two towers' names and tensors (model_repository/reward_*/config.pbtxt) and each release's tokenizer. Does not
know what the embeddings are for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.ranking.ranker import RewardUser
from services.runtime.release import Release
from services.runtime.tokens import PromptTokenizer
from services.runtime.triton import Array, Models, usable

TEXT_MODEL, IMAGE_MODEL = "reward_text", "reward_image"
MODELS = (TEXT_MODEL, IMAGE_MODEL)


class TritonRewardModel:
    """Asks in batches that the models accept, and names the release in every call."""

    def __init__(self, models: Models, max_batch: int) -> None:
        self._models = models
        self._max_batch = max_batch
        self._tokenizers: dict[int, PromptTokenizer] = {}

    async def text(self, release: Release, prompt: str, user: RewardUser) -> NDArray[np.float32]:
        input_ids = self._tokenizer(release).encode(prompt)[None]  # (1, 77)
        inputs: dict[str, Array] = {"input_ids": input_ids, "user": user.text[None]}
        [embedding] = await self._embed(TEXT_MODEL, inputs, release)
        return np.asarray(embedding)

    async def images(self, release: Release, images: NDArray[np.uint8], user: RewardUser) -> NDArray[np.float32]:
        batches = [images[start : start + self._max_batch] for start in range(0, len(images), self._max_batch)]
        return np.concatenate([await self._embed_images(batch, release, user) for batch in batches])

    async def _embed_images(self, batch: NDArray[np.uint8], release: Release, user: RewardUser) -> NDArray[np.float32]:
        inputs: dict[str, Array] = {"image": batch, "user": np.repeat(user.image[None], len(batch), axis=0)}
        return await self._embed(IMAGE_MODEL, inputs, release)

    async def _embed(self, model: str, inputs: dict[str, Array], release: Release) -> NDArray[np.float32]:
        answer = await self._models.infer(model, inputs, release.number)
        return usable(answer, model, "embedding", (len(inputs["user"]), release.reward_width))  # (B, e)

    def _tokenizer(self, release: Release) -> PromptTokenizer:
        if release.number not in self._tokenizers:
            document = release.reward_tokenizer_file.read_text(encoding="utf-8")
            self._tokenizers[release.number] = PromptTokenizer(document, release.text_tokens)
        return self._tokenizers[release.number]
