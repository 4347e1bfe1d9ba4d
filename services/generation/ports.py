"""The interfaces that the service's logic needs from outside; adapters/ implements them.

Models are called and events published through the runtime's own ports, services/runtime/triton.py and events.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfusion.v1 import user_pb2

from contract.release import Release
from services.generation.orders import Group, Scores, User
from services.generation.pages import Position

Features = Mapping[str, user_pb2.FeatureValue]


class Users(ABC):
    """The user embedding service."""

    @abstractmethod
    async def vectors(self, user_id: str, release: Release) -> User:
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


class Pictures(ABC):
    """The store of pictures' bytes. Writing one twice is harmless: the same bytes have the same URI."""

    @abstractmethod
    async def put(self, png: bytes) -> str:
        """Stores a picture and returns its URI; Unavailable when the store does not accept it."""

    @abstractmethod
    async def get(self, uri: str) -> bytes:
        """A stored picture's bytes; Unavailable when the store does not give them."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the store takes writes."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a round."""

    request_id: str
    group_id: str
    release: int
    owner: str
    event: bytes | None  # set when the group is already stored and only its event is owed


@dataclass(frozen=True)
class Finished:
    """The round is done; its group can be read."""

    group_id: str
    release: int


@dataclass(frozen=True)
class Busy:
    """Another call works on the round just now."""


class RoundClaims(ABC):
    """Claims of calls on request_ids, so that one request makes one group."""

    @abstractmethod
    async def claim(self, request_id: str, fingerprint: str, release: int) -> Claim | Finished | Busy:
        """Takes the round if it is free; AlreadyExists when the request_id was used with another payload."""

    @abstractmethod
    async def renew(self, claim: Claim) -> None:
        """Holds the claim for another lease; Unavailable when another call has taken it over."""

    @abstractmethod
    async def finish(self, claim: Claim) -> None:
        """The event is acknowledged: clients may see the group."""

    @abstractmethod
    async def abandon(self, claim: Claim) -> None:
        """Gives the round up, so that a retry can begin at once: nothing stays of it unless its group is stored."""


class Groups(ABC):
    """Groups' records, without the pictures' bytes; visible only once their round is finished."""

    @abstractmethod
    async def add(self, claim: Claim, group: Group, event: bytes) -> None:
        """Stores a group and the event it owes, all or nothing, if the claim still holds."""

    @abstractmethod
    async def get(self, group_id: str) -> Group | None:
        """A finished group; None if it does not exist."""

    @abstractmethod
    async def page(self, user_id: str, size: int, after: Position | None) -> tuple[Sequence[Group], bool]:
        """A page of a user's finished groups, newest first, from a position on; and whether there are more."""
