"""The interfaces that the service's logic needs from outside; adapters/ implements them.

Models are called and events published through the runtime's own ports, services/runtime/triton.py and events.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from perfusion.v1.events_pb2 import GroupGenerated

from contract.release import Release
from services.generation.orders import Group, Scores, User
from services.generation.pictures import Loss
from services.runtime.pages import Page


class Users(ABC):
    """The user embedding service."""

    @abstractmethod
    async def vectors(self, user_id: str, release: Release) -> User:
        """A user's vectors by one release, with the profile behind them; NotFound for a user without profile."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service says that it can serve the calls."""


class Ranker(ABC):
    """The ranking service."""

    @abstractmethod
    async def rank(self, user_id: str, prompt: str, images: Sequence[bytes], release: int, user: User | None) -> Scores:
        """Score and rank of each picture (PNG), in the order given; `user` is by this release, None is not known."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service says that it can serve the calls."""


class Pictures(ABC):
    """The store of pictures' bytes. Writing one twice is harmless: the same bytes have the same URI."""

    @abstractmethod
    async def put(self, png: bytes) -> str:
        """Stores a picture and returns its URI; Unavailable when the store does not accept it."""

    @abstractmethod
    async def get(self, uri: str) -> bytes | Loss:
        """A stored picture's bytes, never other ones, or why there are none; Unavailable when the store fails."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the store takes writes."""

    @abstractmethod
    async def check_reads(self) -> None:
        """Returns when the store can be read, also one that takes no writes."""


@dataclass(frozen=True)
class StoredObject:
    """What lies in the store, a picture or not."""

    name: str  # below the store's root
    uri: str  # as groups refer to it
    modify_time_s: float  # by the store's own clock


class StoredObjects(ABC):
    """The store as a sweep sees it: names and ages. All of it raises Unavailable when the store fails."""

    @abstractmethod
    async def folder(self, name: str) -> Sequence[StoredObject]:
        """The objects in one folder; none where there is no such folder."""

    @abstractmethod
    async def now_s(self) -> float:
        """The store's own clock, which `modify_time_s` is by."""

    @abstractmethod
    async def delete(self, name: str, *, not_after_s: float) -> bool:
        """Deletes an object last written until then; False for one that is gone, or was written again."""


class References(ABC):
    """Which pictures stored groups refer to."""

    @abstractmethod
    async def among(self, uris: Sequence[str]) -> set[str]:
        """Those of the URIs that a stored group refers to, whether clients see it yet or not."""

    @abstractmethod
    async def named(self, names: Sequence[str]) -> set[str]:
        """Those of the objects' names that a stored group refers to, wherever the store was when it was made."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a round."""

    request_id: str
    group_id: str
    release: int
    owner: str


@dataclass(frozen=True)
class Finished:
    """The round's group is stored; it can be read once Kafka has its event."""

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
    async def knows(self, request_id: str) -> bool:
        """Whether a call works on the round or has finished it; reads alone."""

    @abstractmethod
    async def renew(self, claim: Claim) -> None:
        """Holds the claim for another lease; Unavailable when another call has taken it over."""

    @abstractmethod
    async def abandon(self, claim: Claim) -> None:
        """Gives the round up, so that a retry can begin at once: nothing stays of it."""


class Groups(ABC):
    """Groups' records, without the pictures' bytes; visible only once Kafka has acknowledged their events."""

    @abstractmethod
    async def add(self, claim: Claim, group: Group, event_id: str, event: GroupGenerated) -> None:
        """Stores a group and the event it owes, all or nothing, and so ends the round, if the claim still holds."""

    @abstractmethod
    async def get(self, group_id: str) -> Group | None:
        """A visible group; None if it does not exist."""

    @abstractmethod
    async def page(self, user_id: str, page: Page) -> tuple[Sequence[Group], int | None]:
        """A page of a user's visible groups, the last stored first; the number of its last one if there are more."""
