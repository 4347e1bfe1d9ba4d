"""Kafka's topics, who may read and write them, and the envelope of every event: key, headers.

What events mean stands in protos/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

GROUPS = "perfusion.groups.v1"  # GroupGenerated, keyed by user_id
FEEDBACK = "perfusion.feedback.v1"  # FeedbackGiven, keyed by user_id
RELEASES = "perfusion.releases.v1"  # ReleaseChanged, keyed by name: only the latest of each name matters
PRESALES = "perfusion.presales.v1"  # PresaleChanged, keyed by user_id
ORDERS = "perfusion.orders.v1"  # OrderChanged, keyed by user_id
SHOP = "perfusion.shop.v1"  # ShopEvent, keyed by user_id
DEAD_LETTERS = "perfusion.dead-letters.v1"  # records of GROUPS, FEEDBACK and SHOP that are no events, as they came

RETENTION_DAYS = 14  # how long a record with a merchant's data may be read; a file of records closes after a day more
_KEPT = {"retention.ms": f"{RETENTION_DAYS * 86_400_000}", "segment.ms": f"{86_400_000}"}
TOPICS: Mapping[str, Mapping[str, str]] = MappingProxyType(  # with what makes their configuration differ
    {
        GROUPS: _KEPT,
        FEEDBACK: _KEPT,
        PRESALES: _KEPT,
        ORDERS: _KEPT,
        SHOP: _KEPT,
        RELEASES: {"cleanup.policy": "compact"},
        DEAD_LETTERS: _KEPT,
    }
)


@dataclass(frozen=True)
class Rights:
    """The topics that a part may read, and those that it may write; to do either it may describe them."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


# By the name in a part's certificate. What no row names is refused: nobody makes or deletes a topic, has a group of
# consumers or a transaction. An idempotent producer needs no more than to write.
RIGHTS: Mapping[str, Rights] = MappingProxyType(
    {
        "generation": Rights(writes=frozenset({GROUPS})),
        "feedback": Rights(writes=frozenset({FEEDBACK})),
        "items": Rights(writes=frozenset({PRESALES, ORDERS, SHOP})),
        "user_embedding": Rights(reads=frozenset({GROUPS, FEEDBACK})),
        "collect": Rights(reads=frozenset({GROUPS, FEEDBACK, SHOP, DEAD_LETTERS}), writes=frozenset({DEAD_LETTERS})),
        "releases": Rights(writes=frozenset({RELEASES})),
    }
)

CONTENT_TYPE = "application/protobuf"
HEADER_CONTENT_TYPE = "content-type"
HEADER_EVENT_ID = "event-id"
HEADER_EVENT_TYPE = "event-type"
HEADER_EVENT_TIME = "event-time"
HEADER_TRACEPARENT = "traceparent"
HEADERS_ORIGIN = ("origin-cluster", "origin-topic", "origin-topic-id", "origin-partition", "origin-offset")
HEADER_REASON = "dead-letter-reason"  # a dead letter has these and HEADERS_ORIGIN behind the headers that it came with


@dataclass(frozen=True, order=True)
class Partition:
    """A partition of one topic of one cluster; a topic that is made anew is another."""

    cluster_id: str
    topic: str
    topic_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


def headers(event_id: str, event_type: str, time: datetime, traceparent: str | None) -> list[tuple[str, bytes]]:
    """An event's headers.

    Args:
        event_id: UUID, the same when the event is sent again: consumers drop repeats by it.
        event_type: full name of the protobuf message.
        time: of sending, UTC.
        traceparent: W3C trace context of the request it belongs to.
    """
    named = {
        HEADER_CONTENT_TYPE: CONTENT_TYPE,
        HEADER_EVENT_ID: event_id,
        HEADER_EVENT_TYPE: event_type,
        HEADER_EVENT_TIME: time.isoformat(timespec="milliseconds"),
    }
    if traceparent:
        named[HEADER_TRACEPARENT] = traceparent
    return [(name, value.encode()) for name, value in named.items()]
