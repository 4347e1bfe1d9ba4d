"""The interfaces that the service's logic needs from outside; adapters/ implements them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.release import Release


@dataclass(frozen=True)
class RewardUser:
    """A user's vectors for the reward model's two towers."""

    text: NDArray[np.float32]  # (d,)
    image: NDArray[np.float32]  # (d,)


class Users(ABC):
    """The user embedding service."""

    @abstractmethod
    async def of_release(self, user_id: str, release: Release) -> RewardUser:
        """A user's vectors; NotFound for a user without profile, FailedPrecondition for a release it lacks."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service says that it can serve the call."""


class RewardModel(ABC):
    """The two towers of every release; unit-length embeddings."""

    @abstractmethod
    async def text(self, release: Release, prompt: str, user: RewardUser) -> NDArray[np.float32]:
        """A prompt's embedding  # (e,)"""

    @abstractmethod
    def unread(self, release: Release, prompt: str) -> tuple[str, ...]:
        """The prompt's phrases that the text tower does not read, because they do not fit."""

    @abstractmethod
    async def images(self, release: Release, images: NDArray[np.uint8], user: RewardUser) -> NDArray[np.float32]:
        """Embeddings of pictures  # (N, H, W, 3) → (N, e)"""
