"""From the service's own terms to messages, the API's and Kafka's. It decides nothing."""

from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1.events_pb2 import FeedbackGiven

from services.feedback.picks import Feedback
from services.runtime.clock import timestamp


def response_of(feedback: Feedback) -> pb.SubmitFeedbackResponse:
    """The pick is recorded."""
    return pb.SubmitFeedbackResponse(event_id=feedback.event_id, feedback_time=timestamp(feedback.create_time_us))


def event_message(feedback: Feedback) -> FeedbackGiven:
    """The Kafka event; the same feedback always gives the same message."""
    return FeedbackGiven(
        request_id=feedback.request_id,
        group_id=feedback.group_id,
        user_id=feedback.user_id,
        release=feedback.release,
        selected_image_ids=feedback.selected_image_ids,
        unselected_image_ids=feedback.unselected_image_ids,
        feedback_time=timestamp(feedback.create_time_us),
    )
