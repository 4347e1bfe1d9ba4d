"""The user encoder as it runs in Triton.

Knows the model's name and tensors (model_repository/user_encoder/config.pbtxt). Does not know profiles or users.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.runtime.triton import Models, usable
from services.user_embedding.embeddings import UserVectors
from services.user_embedding.profiles import Slots

MODEL = "user_encoder"
_OUTPUTS = ("reward_text_user", "reward_image_user", "generator_user")


class TritonUserEncoder:
    """Encodes profiles in batches that the model accepts."""

    def __init__(self, models: Models, max_batch: int) -> None:
        self._models = models
        self._max_batch = max_batch

    async def encode(self, release: int, rows: Sequence[Slots]) -> list[UserVectors]:
        vectors: list[UserVectors] = []
        for start in range(0, len(rows), self._max_batch):
            vectors += await self._encode_batch(release, rows[start : start + self._max_batch])
        return vectors

    async def _encode_batch(self, release: int, rows: Sequence[Slots]) -> list[UserVectors]:
        features = np.asarray(rows, dtype=np.int64)  # (B, F)
        answer = await self._models.infer(MODEL, {"features": features}, release)
        outputs = [usable(answer, MODEL, name, (len(rows), None)) for name in _OUTPUTS]  # 3 × (B, d)
        return [UserVectors(*vectors) for vectors in zip(*outputs, strict=True)]
