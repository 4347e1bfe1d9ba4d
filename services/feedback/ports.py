"""The interfaces that the service's logic needs from outside; adapters/ implements them.

Events are published through the runtime's own port, services/runtime/events.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from services.feedback.picks import Feedback, ShownGroup


@dataclass(frozen=True)
class Recorded:
    """Stored feedback, and whether Kafka has acknowledged its event."""

    feedback: Feedback
    published: bool


class Groups(ABC):
    """The groups of the generation service."""

    @abstractmethod
    async def get(self, group_id: str) -> ShownGroup | None:
        """The group; None if it does not exist."""

    @abstractmethod
    async def check(self) -> None:
        """Returns if the service reports SERVING."""


class Records(ABC):
    """Stored feedback by request id."""

    @abstractmethod
    async def find(self, request_id: str) -> Recorded | None:
        """The record of a request id."""

    @abstractmethod
    async def add_pending(self, feedback: Feedback) -> Recorded:
        """Stores it, unpublished, unless its request id is taken; returns the record that now has that id."""

    @abstractmethod
    async def mark_published(self, request_id: str) -> None:
        """Notes that Kafka has the event."""
