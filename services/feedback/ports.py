"""What the service's logic needs from outside, as it wants it; adapters/ has the real ones.

Events are published through the runtime's own port, services/runtime/events.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from services.feedback.picks import Feedback, ShownGroup


@dataclass(frozen=True)
class Recorded:
    """Feedback as it is kept, and whether Kafka has acknowledged its event."""

    feedback: Feedback
    published: bool


class Groups(ABC):
    """What was shown, as the generation service knows it."""

    @abstractmethod
    async def get(self, group_id: str) -> ShownGroup | None:
        """The group, None if there is no such one."""

    @abstractmethod
    async def check(self) -> None:
        """Returns while the service says that it serves."""


class Records(ABC):
    """What was picked, kept by request id."""

    @abstractmethod
    async def find(self, request_id: str) -> Recorded | None:
        """What stands under a request id."""

    @abstractmethod
    async def add_pending(self, feedback: Feedback) -> Recorded:
        """Writes it down, unpublished, unless its request id is taken; either way, what now stands under that id."""

    @abstractmethod
    async def mark_published(self, request_id: str) -> None:
        """Notes that Kafka has the event."""
