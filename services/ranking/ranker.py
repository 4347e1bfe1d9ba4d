"""Ranking: from a user, a prompt and pictures to scores and ranks.

Knows the order of the calls, and that all of them use one release. Does not know gRPC, Triton, or tokenizers.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.release import Release
from services.ranking.ports import RewardModel, RewardUser, Users
from services.ranking.scoring import Score, ranked, scores


@dataclass(frozen=True)
class Ranker:
    """Scores and ranks pictures with the personalised reward model."""

    users: Users
    reward: RewardModel

    async def rank(
        self, release: Release, user_id: str, prompt: str, images: NDArray[np.uint8], user: RewardUser | None = None
    ) -> list[Score]:
        """Scores and ranks in the order given; images are  # (N, H, W, 3)

        Without the user's vectors by this release they are asked for.
        """
        user = user or await self.users.of_release(user_id, release)
        text, pictures = await asyncio.gather(
            self.reward.text(release, prompt, user), self.reward.images(release, images, user)
        )
        return ranked(scores(text, pictures, release.manifest.reward_logit_scale))
