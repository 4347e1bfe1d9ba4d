"""FeedbackService: requests checked and turned into work, and the outcome back into messages."""

from dataclasses import dataclass

from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1 import feedback_service_pb2_grpc as pb_grpc

from services.feedback.messages import response_of
from services.feedback.requests import pick_of
from services.feedback.submission import Submissions


@dataclass(frozen=True)
class FeedbackServicer(pb_grpc.FeedbackServiceServicer):
    """One method: records and publishes a pick before it confirms it."""

    submissions: Submissions

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: object) -> pb.SubmitFeedbackResponse:
        return response_of(await self.submissions.submit(pick_of(request)))
