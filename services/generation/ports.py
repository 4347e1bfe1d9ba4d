"""What a round needs of other services. The gRPC clients are in clients.py; tests supply their own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from perfusion.v1 import user_pb2

from services.generation.orders import Scores, User

Features = Mapping[str, user_pb2.FeatureValue]


class Users(ABC):
    """The user embedding service."""

    @abstractmethod
    async def vectors(self, user_id: str, release: int) -> User:
        """A user's vectors by one release; NotFound for a user without profile."""

    @abstractmethod
    async def features(self, user_id: str) -> Features:
        """A user's profile as it is now; NotFound for a user without profile."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service serves."""


class Ranker(ABC):
    """The ranking service."""

    @abstractmethod
    async def rank(self, user_id: str, prompt: str, images: Sequence[bytes], release: int) -> Scores:
        """Score and rank of each picture (PNG), in the order given."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service serves."""
