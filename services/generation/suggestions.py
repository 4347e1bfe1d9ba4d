"""Suggests phrases: asks the reward model which pictures this user would like best for the prompt so far.

What a phrase would bring is read off the text itself, for a user of whom nothing is known: the empty profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.generation.phrases import Suggestion, best, extended, fitting, gains, without
from services.generation.ports import Users
from services.generation.tokenizer import Tokenizers
from services.runtime.release import Release
from services.runtime.triton import Models, Tensors, usable

MODELS = ("reward_text", "user_encoder")


@dataclass(frozen=True)
class Suggester:
    """Answers SuggestPhrases."""

    models: Models
    tokenizers: Tokenizers
    users: Users
    max_batch: int
    _nobody: dict[int, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)  # (d,) by release

    async def suggest(self, user_id: str, prompt: str, prefix: str, limit: int, release: Release) -> list[Suggestion]:
        """The best phrases for this user and prompt; NotFound for a user without profile."""
        user = await self.users.vectors(user_id, release.number)
        fit = fitting(release.phrases, prompt, prefix)
        of_fit = {phrase.kind for phrase in fit}
        kinds = [kind for kind in release.phrases if kind.kind in of_fit]
        if not kinds:
            return []
        texts = [extended(without(prompt, kind), phrase) for kind in kinds for phrase in kind.phrases]
        nobody = await self._nobody_in(release)
        embeddings = await self._embedded(
            [prompt, *texts], np.stack([user.reward_text, *[nobody] * len(texts)]), release
        )
        gained = gains(embeddings[0], embeddings[1:], kinds, release.reward_logit_scale)
        return best(fit, [gained[phrase] for phrase in fit], limit)

    async def _nobody_in(self, release: Release) -> NDArray[np.float32]:
        """What the text tower is told of a user of whom nothing is known; encoded once a release."""
        if release.number not in self._nobody:
            blank = np.zeros((1, release.feature_schema.slots), np.int64)
            encoded = await self.models.infer("user_encoder", {"features": blank}, release.number)
            [nobody] = usable(encoded, "user_encoder", "reward_text_user", (1, release.reward_user_width))
            self._nobody[release.number] = nobody
        return self._nobody[release.number]

    async def _embedded(
        self, texts: Sequence[str], users: NDArray[np.float32], release: Release
    ) -> NDArray[np.float32]:
        """Unit-length embeddings  # (T, e)  of texts, each read by its user  # (T, d), in as many batches as needed."""
        ids = self.tokenizers.reward_ids(release, list(texts))  # (T, 77)
        parts = []
        for start in range(0, len(ids), self.max_batch):
            part = slice(start, start + self.max_batch)
            batch: Tensors = {"input_ids": ids[part], "user": users[part]}
            answer = await self.models.infer("reward_text", batch, release.number)
            parts.append(usable(answer, "reward_text", "embedding", (len(batch["user"]), release.reward_width)))
        return np.concatenate(parts)
