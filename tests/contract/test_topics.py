"""Kafka's topics and the envelope of an event."""

from datetime import UTC, datetime

from contract.topics import (
    DEAD_LETTERS,
    FEEDBACK,
    GROUPS,
    ORDERS,
    PRESALES,
    RELEASES,
    SHOP,
    TOPICS,
    headers,
)

TIME = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def test_an_event_says_what_it_is_and_when_it_was_sent() -> None:
    found = headers("0b7e", "perfusion.v1.FeedbackGiven", TIME, "00-trace-span-01")
    assert dict(found) == {
        "content-type": b"application/protobuf",
        "event-id": b"0b7e",
        "event-type": b"perfusion.v1.FeedbackGiven",
        "event-time": b"2026-01-02T03:04:05.678+00:00",
        "traceparent": b"00-trace-span-01",
    }
    assert len(found) == 5  # none twice


def test_without_a_trace_there_is_no_empty_header() -> None:
    for nothing in (None, ""):
        assert "traceparent" not in dict(headers("0b7e", "perfusion.v1.GroupGenerated", TIME, nothing))


def test_only_the_latest_release_of_each_name_is_kept_and_every_group_and_pick() -> None:
    assert set(TOPICS) == {GROUPS, FEEDBACK, PRESALES, ORDERS, SHOP, RELEASES, DEAD_LETTERS}
    compacted = {topic for topic, settings in TOPICS.items() if settings.get("cleanup.policy") == "compact"}
    assert compacted == {RELEASES}
    assert all(topic.endswith(".v1") for topic in TOPICS)
