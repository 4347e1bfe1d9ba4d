"""Feedback as the event that training reads.

Knows the event's message, topic and key. Does not know Kafka, nor when an event is due.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1.events_pb2 import FeedbackGiven

from services.feedback.picks import Feedback
from services.runtime.events import Event, Events


class FeedbackPublisher:
    """Publishes with acknowledgement; the same feedback always makes the same message under the same event id."""

    def __init__(self, events: Events, topic: str) -> None:
        self._events = events
        self._topic = topic

    async def publish(self, feedback: Feedback) -> None:
        message = feedback_given(feedback)
        await self._events.publish(Event(self._topic, feedback.user_id, feedback.event_id, message))


def feedback_given(feedback: Feedback) -> FeedbackGiven:
    """The event's value."""
    feedback_time = Timestamp()
    feedback_time.FromDatetime(feedback.create_time)
    return FeedbackGiven(
        request_id=feedback.request_id,
        group_id=feedback.group_id,
        user_id=feedback.user_id,
        release=feedback.release,
        selected_image_ids=feedback.selected_image_ids,
        unselected_image_ids=feedback.unselected_image_ids,
        feedback_time=feedback_time,
    )
