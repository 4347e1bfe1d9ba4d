"""Suggests phrases: the reward model estimates which pictures this user favours for the current prompt.

The text of the prompt with a phrase, embedded for an unknown merchant (the empty profile), stands for its picture. It
knows the two models' tensors; phrases.py has the rules for fitting phrases and their scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.prompts import folded
from contract.release import Release
from services.generation.phrases import Phrase, Suggestion, best, extended, fitting, gains, without
from services.generation.ports import Users
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Models, Tensors, usable

MODELS = ("reward_text", "user_encoder")


@dataclass(frozen=True)
class Suggester:
    """Answers SuggestPhrases."""

    models: Models
    tokenizers: Tokenizers
    users: Users
    max_batch: int
    _unknown: dict[int, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)  # (d,) by release

    async def suggest(self, user_id: str, prompt: str, prefix: str, limit: int, release: Release) -> list[Suggestion]:
        """The best phrases for this user and prompt; NotFound for a user without profile.

        Args:
            prompt, prefix: as they are typed, in phrases or their labels.
        """
        prompt = release.vocabulary.canonical(prompt)
        user = await self.users.vectors(user_id, release)
        fit = self._read(prompt, fitting(release.vocabulary, prompt, prefix), release)
        of_fit = {phrase.kind for phrase in fit}
        kinds = [kind for kind in release.vocabulary.kinds if kind.name in of_fit]
        if not kinds:
            return []
        texts = [extended(without(prompt, kind), phrase) for kind in kinds for phrase in kind.phrases]
        unknown = await self._unknown_in(release)
        embeddings = await self._embedded(
            [prompt, *texts], np.stack([user.reward_text, *[unknown] * len(texts)]), release
        )
        gained = gains(embeddings[0], embeddings[1:], kinds, release.manifest.reward_logit_scale)
        return best(fit, [gained[phrase] for phrase in fit], limit)

    def _read(self, prompt: str, phrases: Sequence[Phrase], release: Release) -> list[Phrase]:
        """Those that the models read when they are added: of a full prompt none."""
        unread = self.tokenizers.unread(release, [extended(prompt, phrase.text) for phrase in phrases])
        return [
            phrase for phrase, left in zip(phrases, unread, strict=True) if folded(phrase.text) not in map(folded, left)
        ]

    async def _unknown_in(self, release: Release) -> NDArray[np.float32]:
        """The text tower's vector of an unknown merchant; encoded once a release."""
        if release.number not in self._unknown:
            blank = np.zeros((1, release.sizes.feature_slots), np.int64)  # (1, F) padded
            encoded = await self.models.infer("user_encoder", {"features": blank}, release.number)
            [unknown] = usable(encoded, "user_encoder", "reward_text_user", (1, release.sizes.reward_user_width))
            self._unknown[release.number] = unknown
        return self._unknown[release.number]

    async def _embedded(
        self, texts: Sequence[str], users: NDArray[np.float32], release: Release
    ) -> NDArray[np.float32]:
        """Unit-length embeddings  # (N, e)  of texts, each for its user  # (N, d), in as many batches as needed."""
        ids = self.tokenizers.reward(release).encode(texts)  # (N, T)
        parts = []
        for start in range(0, len(ids), self.max_batch):
            part = slice(start, start + self.max_batch)
            batch: Tensors = {"input_ids": ids[part], "user": users[part]}
            answer = await self.models.infer("reward_text", batch, release.number)
            parts.append(usable(answer, "reward_text", "embedding", (len(batch["user"]), release.sizes.reward_width)))
        return np.concatenate(parts)
