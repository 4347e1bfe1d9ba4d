"""Kafka's records as events, or the reason why one is none.

Knows the envelope (contract.topics) and what an event must say by itself; nothing about other events, Kafka or tables.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import DecodeError
from perfusion.v1.events_pb2 import (
    SHOP_EVENT_KIND_ORDER,
    SHOP_EVENT_KIND_RETURN,
    SHOP_EVENT_KIND_UNSPECIFIED,
    FeedbackGiven,
    GroupGenerated,
    ShopEvent,
    ShopEventKind,
)

from contract import topics

Message = GroupGenerated | FeedbackGiven | ShopEvent
KINDS: dict[str, type[GroupGenerated] | type[FeedbackGiven] | type[ShopEvent]] = {
    topics.GROUPS: GroupGenerated,
    topics.FEEDBACK: FeedbackGiven,
    topics.SHOP: ShopEvent,
}
TYPES = {topic: kind.DESCRIPTOR.full_name for topic, kind in KINDS.items()}
GROUP, PICK, SHOP = TYPES[topics.GROUPS], TYPES[topics.FEEDBACK], TYPES[topics.SHOP]
_WITH_UNITS = (SHOP_EVENT_KIND_ORDER, SHOP_EVENT_KIND_RETURN)


class Poison(Exception):
    """A record is no event of its topic, or a pick does not fit its group; the message says why."""


@dataclass(frozen=True)
class Origin:
    """Where a record lies: a topic that is made anew has another id."""

    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Record:
    """What Kafka gave."""

    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Event:
    """A record that is what its topic promises."""

    record: Record
    event_id: str
    event_type: str
    event_time: datetime  # of sending, UTC
    message: Message

    @property
    def group(self) -> GroupGenerated:
        """The message of a group's event."""
        assert isinstance(self.message, GroupGenerated)
        return self.message

    @property
    def pick(self) -> FeedbackGiven:
        """The message of a pick's event."""
        assert isinstance(self.message, FeedbackGiven)
        return self.message

    @property
    def of_shop(self) -> ShopEvent:
        """The message of an event of the shop."""
        assert isinstance(self.message, ShopEvent)
        return self.message

    @property
    def user_id(self) -> str:
        return self.message.user_id

    @property
    def group_id(self) -> str:
        return self.message.group_id


def event_of(record: Record) -> Event:
    """The event that a record is.

    Raises:
        Poison: it is none.
    """
    headers = dict(record.headers)
    if (found := _text(headers, topics.HEADER_CONTENT_TYPE)) != topics.CONTENT_TYPE:
        raise Poison(f"content-type is {found!r}, not {topics.CONTENT_TYPE!r}")
    if (found := _text(headers, topics.HEADER_EVENT_TYPE)) != TYPES[record.origin.topic]:
        raise Poison(f"event-type is {found!r}, this topic has {TYPES[record.origin.topic]!r}")
    event_id, time = _text(headers, topics.HEADER_EVENT_ID), _text(headers, topics.HEADER_EVENT_TIME)
    try:
        UUID(event_id)
    except ValueError:
        raise Poison(f"event-id is {event_id!r}, not a UUID") from None
    message = _decoded(record)
    if record.key is None or record.key != message.user_id.encode():
        raise Poison("the key is not the message's user_id")
    if isinstance(message, ShopEvent) and message.event_id != event_id:
        raise Poison("the event-id is not the message's event_id")
    return Event(record, event_id, TYPES[record.origin.topic], _time(time), message)


def restored(record: Record, event_id: str, event_time: datetime) -> Event:
    """An event that was checked before it was stored."""
    topic = record.origin.topic
    return Event(record, event_id, TYPES[topic], event_time, KINDS[topic].FromString(record.value or b""))


def _text(headers: dict[str, bytes], name: str) -> str:
    if headers.get(name) is None:
        raise Poison(f"the header {name} is missing")
    try:
        return headers[name].decode()
    except UnicodeDecodeError:
        raise Poison(f"the header {name} is not UTF-8") from None


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Poison(f"event-time is {text!r}, not RFC 3339") from None
    if time.tzinfo is None:
        raise Poison(f"event-time is {text!r}, without a zone")
    return time.astimezone(UTC)


def _decoded(record: Record) -> Message:
    if not record.value:
        raise Poison("the value is empty")
    try:
        message = KINDS[record.origin.topic].FromString(record.value)
    except DecodeError as error:
        raise Poison(f"the value is no {TYPES[record.origin.topic]}: {error}") from None
    for name in ("group_id", "user_id"):
        if not getattr(message, name):
            raise Poison(f"{name} is empty")
    if isinstance(message, GroupGenerated):
        _check_group(message)
    elif isinstance(message, FeedbackGiven):
        _check_pick(message)
    else:
        _check_of_shop(message)
    return message


def _check_group(group: GroupGenerated) -> None:
    ids = [candidate.image_id for candidate in group.candidates]
    if not ids:
        raise Poison("the group has no candidates")
    if "" in ids or len(set(ids)) < len(ids):
        raise Poison("a candidate's image_id is empty or there twice")
    if not all(candidate.uri for candidate in group.candidates):
        raise Poison("a candidate has no uri")
    _check_timestamp(group, "create_time")


def _check_pick(pick: FeedbackGiven) -> None:
    named = [*pick.selected_image_ids, *pick.unselected_image_ids]
    if len(set(named)) < len(named):
        raise Poison("a picture is named twice, or both as selected and as not selected")
    if pick.sequence < 0:
        raise Poison(f"sequence is {pick.sequence}")
    _check_timestamp(pick, "feedback_time")


def _check_of_shop(event: ShopEvent) -> None:
    if event.kind == SHOP_EVENT_KIND_UNSPECIFIED or event.kind not in ShopEventKind.values():
        raise Poison(f"kind is {event.kind}")
    for name in ("presale_id", "image_id"):
        if not getattr(event, name):
            raise Poison(f"{name} is empty")
    if event.kind in _WITH_UNITS and event.units < 1:
        raise Poison(f"an order or a return of {event.units} units")
    _check_timestamp(event, "event_time")
    _check_timestamp(event, "item_create_time")


def _check_timestamp(message: Message, name: str) -> None:
    if not message.HasField(name):  # type: ignore[arg-type]
        raise Poison(f"{name} is missing")
    try:
        getattr(message, name).ToDatetime()
    except (ValueError, OverflowError) as error:
        raise Poison(f"{name} is no time: {error}") from None
