"""From the service's own terms to messages, the API's and Kafka's. It decides nothing."""

from collections.abc import Sequence

from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1.events_pb2 import FeedbackGiven

from services.feedback.picks import Feedback
from services.feedback.ports import Picks, Recorded
from services.runtime.clock import timestamp
from services.runtime.pages import token_of
from services.runtime.statuses import status_of


def response_of(feedback: Feedback) -> pb.SubmitFeedbackResponse:
    """The pick is recorded."""
    return pb.SubmitFeedbackResponse(event_id=feedback.event_id, feedback_time=timestamp(feedback.create_time_us))


def import_response(outcomes: Sequence[Feedback | Exception]) -> pb.ImportFeedbackResponse:
    """What became of the picks of one message."""
    return pb.ImportFeedbackResponse(
        results=[
            pb.ImportFeedbackResult(status=status_of(outcome).SerializeToString())
            if isinstance(outcome, Exception)
            else pb.ImportFeedbackResult(response=response_of(outcome))
            for outcome in outcomes
        ]
    )


def feedback_message(recorded: Recorded) -> pb.Feedback:
    """A pick that is read back."""
    feedback = recorded.feedback
    return pb.Feedback(
        request_id=feedback.request_id,
        event_id=feedback.event_id,
        group_id=feedback.group_id,
        user_id=feedback.user_id,
        release=feedback.release,
        selected_image_ids=feedback.selected_image_ids,
        unselected_image_ids=feedback.unselected_image_ids,
        feedback_time=timestamp(feedback.create_time_us),
        sequence=feedback.sequence,
        superseded=recorded.superseded,
    )


def scope_of(picks: Picks) -> tuple[str, ...]:
    """The name of a list of picks, for its page tokens."""
    return ("feedback", picks.user_id, picks.group_id, "all" if picks.show_superseded else "counting")


def page_message(picks: Picks, page: Sequence[Recorded], last: int | None) -> pb.ListFeedbackResponse:
    """A page of picks; `last` is the number of its last pick if there are more."""
    return pb.ListFeedbackResponse(
        feedback=map(feedback_message, page), next_page_token=token_of(scope_of(picks), last)
    )


def event_message(feedback: Feedback) -> FeedbackGiven:
    """The Kafka event."""
    return FeedbackGiven(
        request_id=feedback.request_id,
        group_id=feedback.group_id,
        user_id=feedback.user_id,
        release=feedback.release,
        selected_image_ids=feedback.selected_image_ids,
        unselected_image_ids=feedback.unselected_image_ids,
        feedback_time=timestamp(feedback.create_time_us),
        sequence=feedback.sequence,
    )
