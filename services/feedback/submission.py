"""Recording a pick: check, write down as pending, publish, mark as published.

Knows the order of these steps and why. Does not know gRPC, SQL or Kafka; it meets them in the three protocols below.

The order makes a failure at any point safe to repeat. The row is written before the event is sent, so that a repeat
after a lost acknowledgement sends the same event again, with the same id, and readers drop it as a duplicate. OK is
said only after the acknowledgement. A repeat works from the row alone: it does not need the generation service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.feedback.picks import Feedback, Pick, PickDiffers, ShownGroup, believe, same_pick


@dataclass(frozen=True)
class Recorded:
    """A row of the store: the feedback, and whether Kafka has acknowledged its event."""

    feedback: Feedback
    published: bool


class Groups(Protocol):
    """What was shown, as the generation service knows it."""

    async def get(self, group_id: str) -> ShownGroup | None: ...

    async def check(self) -> None: ...


class Records(Protocol):
    """What was picked, kept by request id."""

    async def find(self, request_id: str) -> Recorded | None: ...

    async def add_pending(self, feedback: Feedback) -> Recorded:
        """Write it down unless its request id is taken; either way, what now stands under that id."""
        ...

    async def mark_published(self, request_id: str) -> None: ...


class Publisher(Protocol):
    """Tells the platform; returns once the event is acknowledged, raises if it may not be."""

    async def publish(self, feedback: Feedback) -> None: ...


class Submissions:
    """The one way a pick is recorded."""

    def __init__(
        self,
        groups: Groups,
        records: Records,
        publisher: Publisher,
        new_id: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._groups = groups
        self._records = records
        self._publisher = publisher
        self._new_id = new_id
        self._now = now

    async def submit(self, pick: Pick) -> Feedback:
        """The feedback as first recorded; PickRefused if the pick is not believed."""
        recorded = await self._records.find(pick.request_id) or await self._record(pick)
        if not same_pick(pick, recorded.feedback):
            raise PickDiffers
        if not recorded.published:
            await self._publisher.publish(recorded.feedback)
            await self._records.mark_published(pick.request_id)
        return recorded.feedback

    async def _record(self, pick: Pick) -> Recorded:
        group = await self._groups.get(pick.group_id)
        return await self._records.add_pending(believe(pick, group, self._new_id(), self._now()))
