"""The reward model as it runs in Triton.

Knows the two towers' names and tensors (model_repository/reward_*/config.pbtxt) and each release's tokenizer. Does not
know the embeddings' use.
"""

import numpy as np
from numpy.typing import NDArray

from contract.release import Release
from services.ranking.ports import RewardModel, RewardUser
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Models, Tensors, usable

TEXT_MODEL, IMAGE_MODEL = "reward_text", "reward_image"
MODELS = (TEXT_MODEL, IMAGE_MODEL)


class TritonRewardModel(RewardModel):
    """Calls the models in batches that they accept, and names the release in every call."""

    def __init__(self, models: Models, max_batch: int) -> None:
        self._models = models
        self._max_batch = max_batch
        self._tokenizers = Tokenizers()

    async def text(self, release: Release, prompt: str, user: RewardUser) -> NDArray[np.float32]:
        input_ids = self._tokenizers.reward(release).encode([prompt])  # (1, 77)
        [embedding] = await self._embed(TEXT_MODEL, {"input_ids": input_ids, "user": user.text[None]}, release)
        return np.asarray(embedding)

    def unread(self, release: Release, prompt: str) -> tuple[str, ...]:
        return self._tokenizers.reward(release).unread(prompt)

    async def images(self, release: Release, images: NDArray[np.uint8], user: RewardUser) -> NDArray[np.float32]:
        batches = [images[start : start + self._max_batch] for start in range(0, len(images), self._max_batch)]
        return np.concatenate([await self._embed_images(batch, release, user) for batch in batches])

    async def _embed_images(self, batch: NDArray[np.uint8], release: Release, user: RewardUser) -> NDArray[np.float32]:
        inputs: Tensors = {"image": batch, "user": np.repeat(user.image[None], len(batch), axis=0)}
        return await self._embed(IMAGE_MODEL, inputs, release)

    async def _embed(self, model: str, inputs: Tensors, release: Release) -> NDArray[np.float32]:
        answer = await self._models.infer(model, inputs, release.number)
        return usable(answer, model, "embedding", (len(inputs["user"]), release.sizes.reward_width))  # (B, e)
