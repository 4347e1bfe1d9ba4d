"""Records a pick: check, store as pending, publish, mark as published.

Knows the order of these steps and why. Does not know gRPC, SQL or Kafka.

The order makes a failure at any point safe to repeat. The row is written before the event is sent, so that a repeat
after a lost acknowledgement sends the same event again, with the same id, and readers drop it as a duplicate. OK is
said only after the acknowledgement. A repeat works from the row alone: it does not need the generation service.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.feedback.messages import event_message
from services.feedback.picks import Feedback, Pick, believe, check_same
from services.feedback.ports import Groups, Recorded, Records
from services.runtime.clock import Clock
from services.runtime.events import Event, Events


@dataclass(frozen=True)
class Submissions:
    """Records picks; `topic` gets their events."""

    groups: Groups
    records: Records
    events: Events
    topic: str
    new_id: Callable[[], str]
    clock: Clock

    async def submit(self, pick: Pick) -> Feedback:
        """The feedback as first recorded; an invalid pick raises the errors of picks.py."""
        recorded = await self.records.find(pick.request_id) or await self._record(pick)
        feedback = recorded.feedback
        check_same(pick, feedback)
        if not recorded.published:
            await self.events.publish(Event(self.topic, feedback.user_id, feedback.event_id, event_message(feedback)))
            await self.records.mark_published(pick.request_id)
        return feedback

    async def _record(self, pick: Pick) -> Recorded:
        group = await self.groups.get(pick.group_id)
        return await self.records.add_pending(believe(pick, group, self.new_id(), self.clock()))
