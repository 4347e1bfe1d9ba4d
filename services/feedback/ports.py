"""The interfaces that the service's logic needs from outside; adapters/ implements them.

Events are published by the runtime's own relay, services/runtime/relay.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from services.feedback.picks import Feedback, ShownGroup
from services.runtime.pages import Page


@dataclass(frozen=True)
class Recorded:
    """Feedback whose event Kafka has acknowledged, and whether a later pick of its group counts instead of it."""

    feedback: Feedback
    superseded: bool


@dataclass(frozen=True)
class Picks:
    """Which picks are listed."""

    user_id: str
    group_id: str  # "" for all groups
    show_superseded: bool


class Groups(ABC):
    """The groups of the generation service."""

    @abstractmethod
    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        """Those of the groups that exist, by their ids."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the service says that it can serve the call."""


class Records(ABC):
    """Stored feedback."""

    @abstractmethod
    async def find(self, request_ids: Sequence[str]) -> Sequence[Feedback | None]:
        """The feedback of each request id, whether Kafka has its event or not."""

    @abstractmethod
    async def add(self, feedback: Sequence[Feedback]) -> Sequence[Feedback]:
        """Stores each, in this order, and the event it owes, unless its request id is taken.

        Returns what now has each one's request id.
        """

    @abstractmethod
    async def counting(self, group_id: str) -> Recorded | None:
        """The acknowledged pick of a group that counts; None if there is none."""

    @abstractmethod
    async def page(self, picks: Picks, page: Page) -> tuple[Sequence[Recorded], int | None]:
        """A page of acknowledged picks, the last recorded first; the number of its last one if there are more."""
