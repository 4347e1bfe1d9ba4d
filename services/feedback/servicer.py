"""FeedbackService: requests checked for shape, refusals put into statuses, and the record into a message.

Knows the API. Does not know what makes a pick believable, nor where it is written.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1 import feedback_service_pb2_grpc as pb_grpc

from services.feedback.picks import (
    GroupOfAnother,
    GroupUnknown,
    NotShown,
    Pick,
    PickDiffers,
    PickRefused,
    duplicates,
)
from services.feedback.submission import Submissions
from services.runtime.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, ServiceError
from services.runtime.fields import Fields

MAX_SELECTED = 64  # more than any group holds
_MAX_NAMED = 10  # pictures named in one refusal


class FeedbackServicer(pb_grpc.FeedbackServiceServicer):
    """One method: a pick comes in, and is recorded and published before it is confirmed."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: object) -> pb.SubmitFeedbackResponse:
        pick = _pick(request)
        try:
            feedback = await self._submissions.submit(pick)
        except PickRefused as refused:
            raise _error(refused, pick) from refused
        feedback_time = Timestamp()
        feedback_time.FromDatetime(feedback.create_time)
        return pb.SubmitFeedbackResponse(event_id=feedback.event_id, feedback_time=feedback_time)


def _pick(request: pb.SubmitFeedbackRequest) -> Pick:
    """The pick in its canonical spelling; InvalidArgument names the fields that have none."""
    fields = Fields()
    request_id = fields.uuid(request.request_id, "request_id")
    group_id = fields.uuid(request.group_id, "group_id")
    user_id = fields.user_id(request.user_id)
    named = list(enumerate(request.selected_image_ids))[:MAX_SELECTED]
    fields.require(
        len(request.selected_image_ids) <= MAX_SELECTED, "selected_image_ids", f"must be at most {MAX_SELECTED}"
    )
    selected = tuple(fields.uuid(image_id, f"selected_image_ids[{i}]") for i, image_id in named)
    for i in duplicates(selected):
        fields.refuse(f"selected_image_ids[{i}]", "is selected twice")
    fields.done()
    return Pick(request_id, group_id, user_id, selected)


def _error(refused: PickRefused, pick: Pick) -> ServiceError:
    match refused:
        case GroupUnknown():
            return NotFound(f"group_id: there is no group {pick.group_id}", field="group_id")
        case GroupOfAnother():
            return PermissionDenied("the group was made for another user")
        case NotShown(positions=positions):
            problem = f"is not a picture of group {pick.group_id}"
            return InvalidArgument(*((f"selected_image_ids[{i}]", problem) for i in positions[:_MAX_NAMED]))
        case PickDiffers():
            return AlreadyExists("request_id was used before for another pick")
        case _:
            raise refused
