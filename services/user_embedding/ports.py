"""The interfaces that the service's logic needs from outside; adapters/ implements them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from contract.release import Release
from services.user_embedding.profiles import Slots, StoredProfile, UserVectors


class Profiles(ABC):
    """The store of profiles."""

    @abstractmethod
    async def put(self, profile: StoredProfile) -> None:
        """Replaces the user's profile, whole, or creates it."""

    @abstractmethod
    async def get(self, user_ids: Sequence[str]) -> dict[str, StoredProfile]:
        """The profiles of those users that have one, by user id."""


class UserEncoder(ABC):
    """The user encoder of every release."""

    @abstractmethod
    async def encode(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        """Vectors of many encoded profiles, in their order."""
