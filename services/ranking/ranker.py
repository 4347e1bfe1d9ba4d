"""Ranking: a user, a prompt and pictures become scores and places.

Knows what is asked of whom, and that everything must be of one release. Does not know gRPC, Triton, or how a prompt
becomes tokens; it meets them in the two protocols below.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.ranking.scoring import Score, ranked, scores
from services.runtime.release import Release


@dataclass(frozen=True)
class RewardUser:
    """What the reward model's two towers know of a user; each  # (d,)"""

    text: NDArray[np.float32]
    image: NDArray[np.float32]


class Users(Protocol):
    """Users as the user embedding service knows them."""

    async def of_release(self, user_id: str, release: int) -> RewardUser: ...

    async def check(self) -> None: ...


class RewardModel(Protocol):
    """The two towers; unit-length embeddings."""

    async def text(self, release: Release, prompt: str, user: RewardUser) -> NDArray[np.float32]: ...  # (e,)

    async def images(
        self, release: Release, images: NDArray[np.uint8], user: RewardUser
    ) -> NDArray[np.float32]: ...  # images (N, H, W, 3) → (N, e)


class Ranker:
    """Scores and ranks pictures with the personalised reward model."""

    def __init__(self, users: Users, reward: RewardModel) -> None:
        self._users = users
        self._reward = reward

    async def rank(self, release: Release, user_id: str, prompt: str, images: NDArray[np.uint8]) -> list[Score]:
        """Scores and ranks in the order given; images are  # (N, H, W, 3)"""
        user = await self._users.of_release(user_id, release.number)
        text, pictures = await asyncio.gather(
            self._reward.text(release, prompt, user), self._reward.images(release, images, user)
        )
        return ranked(scores(text, pictures, release.reward_logit_scale))
