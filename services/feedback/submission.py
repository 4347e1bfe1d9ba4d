"""Records picks: check, store with the events they owe, publish. And reads picks back.

Knows the order of these steps and why. Does not know gRPC, SQL or Kafka.

The order makes a failure at any point safe. The row and its event are stored in one transaction before the event is
sent; from then on the relay publishes it, whether the client comes again or not. OK is said only after Kafka's
acknowledgement. A repeat works from the row alone: it does not need the generation service.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.feedback.picks import Feedback, Pick, believe, check_same
from services.feedback.ports import Groups, Recorded, Records
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, PermanentError, PermissionDenied
from services.runtime.relay import Relay


async def _at_once() -> None:
    """Nobody else's turn comes first."""


@dataclass(frozen=True)
class Stored:
    """The feedback of a pick, and whether it was stored just now."""

    feedback: Feedback
    is_new: bool


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
        [outcome] = await self.publish(await self.record([pick]))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def record(
        self, picks: Sequence[Pick], turn: Callable[[], Awaitable[object]] = _at_once
    ) -> Sequence[Stored | PermanentError]:
        """What is stored of each pick, or why it is refused. They are stored in their order, once `turn` has come.

        Raises:
            RetryableError: the database or the generation service does not answer. None of the picks is known to be
                stored; the same picks may be recorded again.
        """
        known = await self.records.find([pick.request_id for pick in picks])
        groups = await self.groups.get({p.group_id for p, found in zip(picks, known, strict=True) if found is None})
        outcomes: list[Stored | PermanentError | None] = []
        new: list[Feedback] = []
        for pick, feedback in zip(picks, known, strict=True):
            try:
                if feedback is None:
                    new.append(believe(pick, groups.get(pick.group_id), self.new_id(), self.clock()))
                    outcomes.append(None)
                else:
                    outcomes.append(_same(pick, feedback, is_new=False))
            except PermanentError as error:
                outcomes.append(error)
        await turn()
        added = iter(zip(await self.records.add(new), new, strict=True))
        for i, pick in enumerate(picks):
            if outcomes[i] is None:
                feedback, ours = next(added)
                try:
                    outcomes[i] = _same(pick, feedback, is_new=feedback.event_id == ours.event_id)
                except PermanentError as error:
                    outcomes[i] = error
        return [outcome for outcome in outcomes if outcome is not None]

    async def publish(self, stored: Sequence[Stored | PermanentError]) -> Sequence[Feedback | Exception]:
        """Of each pick its feedback, whose event Kafka has, or why there is none or Kafka does not have it."""
        failures: dict[str, Exception] = {}
        for are_new in (True, False):
            events = {
                each.feedback.event_id: each.feedback.user_id
                for each in stored
                if isinstance(each, Stored) and each.is_new == are_new
            }
            if events:
                failures |= await self.relay.deliver_all(events, are_new=are_new)
        return [
            failures.get(each.feedback.event_id, each.feedback) if isinstance(each, Stored) else each for each in stored
        ]

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


def _same(pick: Pick, feedback: Feedback, *, is_new: bool) -> Stored:
    """What is stored under the pick's request id, if it is this pick; AlreadyExists otherwise."""
    check_same(pick, feedback)
    return Stored(feedback, is_new)
