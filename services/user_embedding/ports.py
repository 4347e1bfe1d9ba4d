"""The interfaces that the service's logic needs from outside; adapters/ implements them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from contract.release import Release
from services.runtime.records import Offsets
from services.user_embedding.incoming import Incoming
from services.user_embedding.profiles import History, Slots, StoredProfile, UserVectors


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


class Histories(ABC):
    """The store of what merchants picked, with the offsets of the topics that it is made from."""

    @abstractmethod
    async def of(self, user_ids: Sequence[str]) -> dict[str, History]:
        """The last picks of those users that have some, by user id; each group with the pick that counts."""

    @abstractmethod
    async def offsets(self) -> Offsets:
        """The next offset of each partition that was ever read."""

    @abstractmethod
    async def apply(self, incoming: Sequence[Incoming], expected: Offsets, reached: Offsets) -> bool:
        """Keeps what the records say, and moves the offsets, all or nothing; what is kept already changes nothing.

        False when the offsets are not the expected ones: another process was faster, and nothing is kept.
        """

    @abstractmethod
    async def sweep(self, before_us: int) -> int:
        """Forgets the groups without pick that were made before; returns how many."""
