"""Records a pick: check, store with the event it owes, publish. And reads picks back.

Knows the order of these steps and why. Does not know gRPC, SQL or Kafka.

The order makes a failure at any point safe. The row and its event are stored in one transaction before the event is
sent; from then on the relay publishes it, whether the client comes again or not. OK is said only after Kafka's
acknowledgement. A repeat works from the row alone: it does not need the generation service.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.feedback.picks import Feedback, Pick, believe, check_same
from services.feedback.ports import Groups, Recorded, Records
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, PermissionDenied
from services.runtime.relay import Relay


@dataclass(frozen=True)
class Submissions:
    """Records picks; `relay` publishes their events."""

    groups: Groups
    records: Records
    relay: Relay
    new_id: Callable[[], str]
    clock: Clock

    async def submit(self, pick: Pick) -> Feedback:
        """The feedback as first recorded; an invalid pick raises the errors of picks.py."""
        feedback = await self.records.find(pick.request_id) or await self._record(pick)
        check_same(pick, feedback)
        await self.relay.deliver(feedback.user_id, feedback.event_id)
        return feedback

    async def _record(self, pick: Pick) -> Feedback:
        group = await self.groups.get(pick.group_id)
        return await self.records.add(believe(pick, group, self.new_id(), self.clock()))

    async def read(self, group_id: str, user_id: str) -> Recorded:
        """The pick of a group that counts.

        Raises:
            NotFound: the group has no pick.
            PermissionDenied: it is another user's.
        """
        recorded = await self.records.counting(group_id)
        if recorded is None:
            raise NotFound(f"group_id: there is no pick of group {group_id}", field="group_id")
        if recorded.feedback.user_id != user_id:
            raise PermissionDenied("the pick is another user's")
        return recorded
