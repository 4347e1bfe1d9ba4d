"""The user encoder as it runs in Triton.

Knows the model's name and its padded tensors (model_repository/user_encoder/config.pbtxt). Does not know profiles or
users.
"""

from collections.abc import Sequence

import numpy as np

from contract.release import Release
from services.runtime.triton import Models, usable
from services.user_embedding.ports import UserEncoder
from services.user_embedding.profiles import Slots, UserVectors

MODEL = "user_encoder"


class TritonUserEncoder(UserEncoder):
    """Encodes profiles in batches that the model accepts."""

    def __init__(self, models: Models, max_batch: int) -> None:
        self._models = models
        self._max_batch = max_batch

    async def encode(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        vectors: list[UserVectors] = []
        for start in range(0, len(rows), self._max_batch):
            vectors += await self._encode_batch(release, rows[start : start + self._max_batch])
        return vectors

    async def _encode_batch(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        sizes = release.sizes
        features = np.zeros((len(rows), sizes.feature_slots), np.int64)  # (B, F) padded
        features[:, : release.manifest.in_use.feature_slots] = rows
        answer = await self._models.infer(MODEL, {"features": features}, release.number)
        widths = {
            "reward_text_user": sizes.reward_user_width,
            "reward_image_user": sizes.reward_user_width,
            "generator_user": sizes.generator_user_width,
            "favours": sizes.phrases,
        }
        outputs = {name: usable(answer, MODEL, name, (len(rows), width)) for name, width in widths.items()}  # (B, d)
        outputs["favours"] = outputs["favours"][:, : release.manifest.in_use.phrases]  # (B, V)
        return [UserVectors(**{name: of_all[row] for name, of_all in outputs.items()}) for row in range(len(rows))]
