"""Kafka's topics, and the envelope of every event: key, headers. What events mean stands in protos/."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

GROUPS = "perfusion.groups.v1"  # GroupGenerated, keyed by user_id
FEEDBACK = "perfusion.feedback.v1"  # FeedbackGiven, keyed by user_id
RELEASES = "perfusion.releases.v1"  # ReleaseChanged, keyed by name: only the latest of each name matters
TOPICS: Mapping[str, Mapping[str, str]] = MappingProxyType(  # with what makes their configuration differ
    {GROUPS: {}, FEEDBACK: {}, RELEASES: {"cleanup.policy": "compact"}}
)

CONTENT_TYPE = "application/protobuf"
HEADER_CONTENT_TYPE = "content-type"
HEADER_EVENT_ID = "event-id"
HEADER_EVENT_TYPE = "event-type"
HEADER_EVENT_TIME = "event-time"
HEADER_TRACEPARENT = "traceparent"


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
