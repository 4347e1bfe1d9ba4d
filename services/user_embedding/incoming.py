"""From Kafka's records to what a history keeps of them, or to Poison: no such event, or one that contradicts itself.

Knows the two events and their envelope; neither partitions nor tables.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from google.protobuf.message import DecodeError
from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated

from contract.limits import MAX_USER_ID_CHARS
from contract.topics import HEADER_EVENT_TIME, HEADER_EVENT_TYPE
from services.runtime.records import Record

_ID_CHARS = 36  # of a UUID


@dataclass(frozen=True)
class ShownGroup:
    """What a group's candidates showed beside the prompt, by image_id."""

    group_id: str
    user_id: str
    create_time_us: int
    shown: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Pick:
    """What was picked in a group."""

    group_id: str
    user_id: str
    sequence: int
    picked: tuple[str, ...]  # image_ids


Incoming: TypeAlias = ShownGroup | Pick


class Poison(ValueError):
    """A record that is no event of ours; the message says why, and holds nothing of its content."""


def read(record: Record) -> Incoming | None:
    """What the record says; None for a group whose candidates all showed the same, from which no pick tells anything.

    Raises:
        Poison: it is no such event.
    """
    if record.key is None or record.value is None:
        raise Poison("no key or no value")
    kind = record.headers.get(HEADER_EVENT_TYPE, b"")
    try:
        match kind:
            case b"perfusion.v1.GroupGenerated":
                return _group(GroupGenerated.FromString(record.value), record.key)
            case b"perfusion.v1.FeedbackGiven":
                return _pick(FeedbackGiven.FromString(record.value), record.key)
    except DecodeError as error:
        raise Poison("the value is no such message") from error
    raise Poison("another event-type")


def _group(group: GroupGenerated, key: bytes) -> ShownGroup | None:
    _check(group.group_id, group.user_id, key)
    shown = {candidate.image_id: tuple(candidate.wishes) for candidate in group.candidates}
    if len(shown) < len(group.candidates):
        raise Poison("an image_id is there twice")
    if len({frozenset(wishes) for wishes in shown.values()}) < 2:
        return None
    return ShownGroup(group.group_id, group.user_id, group.create_time.ToMicroseconds(), shown)


def _pick(pick: FeedbackGiven, key: bytes) -> Pick:
    _check(pick.group_id, pick.user_id, key)
    if pick.sequence < 0:
        raise Poison("the sequence is below 0")
    return Pick(pick.group_id, pick.user_id, pick.sequence, tuple(pick.selected_image_ids))


def _check(group_id: str, user_id: str, key: bytes) -> None:
    if not 0 < len(group_id) <= _ID_CHARS or not 0 < len(user_id) <= MAX_USER_ID_CHARS:
        raise Poison("group_id or user_id is missing or too long")
    if key != user_id.encode():
        raise Poison("the key is not the user")
    if "\0" in group_id or "\0" in user_id:
        raise Poison("group_id or user_id holds a zero character")


def sent_at_s(record: Record) -> float | None:
    """When the event was sent, seconds since 1970; None where it does not say."""
    try:
        return datetime.fromisoformat(record.headers[HEADER_EVENT_TIME].decode()).timestamp()
    except (KeyError, ValueError):
        return None
