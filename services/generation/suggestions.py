"""Suggests phrases: asks the reward model how each phrase, added to the prompt, suits pictures that did well.

The pictures are the best-ranked ones of the user's newest groups; for a user without groups, of anybody's newest,
seen through this user's own vectors; when there are none at all, every score is 0 and the vocabulary's order stands.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.generation.orders import User
from services.generation.phrases import Suggestion, best, extended, fitting, scores
from services.generation.ports import Users
from services.generation.store.groups import GroupStore
from services.generation.store.pictures import PictureStore
from services.generation.tokenizer import Tokenizers
from services.runtime.release import Release
from services.runtime.triton import Models, Tensors

MODELS = ("reward_text", "reward_image")
NUM_PICTURES = 16


@dataclass(frozen=True)
class Suggester:
    """Answers SuggestPhrases."""

    models: Models
    tokenizers: Tokenizers
    users: Users
    groups: GroupStore
    pictures: PictureStore
    max_batch: int

    async def suggest(self, user_id: str, prompt: str, prefix: str, limit: int, release: Release) -> list[Suggestion]:
        """The best phrases for this user and prompt; NotFound for a user without profile."""
        user = await self.users.vectors(user_id, release.number)
        phrases = fitting(release.phrases, prompt, prefix)
        images = await self._images(user_id, release) if phrases else None
        if images is None:
            return best(phrases, [0.0] * len(phrases), limit)
        texts = [extended(prompt, phrase.text) for phrase in phrases]
        text_embeddings, image_embeddings = await asyncio.gather(
            self._texts(texts, user, release), self._pictures(images, user, release)
        )
        return best(phrases, scores(text_embeddings, image_embeddings).tolist(), limit)

    async def _images(self, user_id: str, release: Release) -> NDArray[np.uint8] | None:
        """Pictures that did well  # (N, H, W, 3), of the release's size; None when there are none."""
        uris = await self.groups.recent_best(user_id, NUM_PICTURES) or await self.groups.recent_best(None, NUM_PICTURES)
        pngs = await asyncio.gather(*(self.pictures.get(uri) for uri in uris))
        size = (release.image_size_px, release.image_size_px)
        return await asyncio.to_thread(_all_decoded, pngs, size) if pngs else None

    async def _texts(self, texts: Sequence[str], user: User, release: Release) -> NDArray[np.float32]:
        ids = self.tokenizers.reward_ids(release, list(texts))  # (P, 77)
        return await self._embedded("reward_text", {"input_ids": ids}, user.reward_text, release)

    async def _pictures(self, images: NDArray[np.uint8], user: User, release: Release) -> NDArray[np.float32]:
        return await self._embedded("reward_image", {"image": images}, user.reward_image, release)

    async def _embedded(
        self, model: str, inputs: Tensors, user: NDArray[np.float32], release: Release
    ) -> NDArray[np.float32]:
        """Unit-length embeddings  # (B, e), in as many batches as the model wants."""
        [(name, samples)] = inputs.items()
        parts = []
        for start in range(0, len(samples), self.max_batch):
            part = samples[start : start + self.max_batch]
            batch = {name: part, "user": np.repeat(user[np.newaxis], len(part), axis=0)}
            parts.append((await self.models.infer(model, batch, release.number))["embedding"])
        return np.concatenate(parts)


def _all_decoded(pngs: Sequence[bytes], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack([_decoded(png, size) for png in pngs])  # (N, H, W, 3)


def _decoded(png: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Our own stored picture; resized when a later release's pictures have another size."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB").resize(size) if image.size != size else image.convert("RGB"), np.uint8)
