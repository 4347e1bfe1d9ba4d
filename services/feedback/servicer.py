"""FeedbackService: requests checked and turned into work, and the outcome back into messages."""

from dataclasses import dataclass

from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1 import feedback_service_pb2_grpc as pb_grpc

from services.feedback import messages, requests
from services.feedback.submission import Submissions


@dataclass(frozen=True)
class FeedbackServicer(pb_grpc.FeedbackServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    submissions: Submissions

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: object) -> pb.SubmitFeedbackResponse:
        return messages.response_of(await self.submissions.submit(requests.pick_of(request)))

    async def GetFeedback(self, request: pb.GetFeedbackRequest, context: object) -> pb.GetFeedbackResponse:
        group_id, user_id = requests.group_query_of(request)
        recorded = await self.submissions.read(group_id, user_id)
        return pb.GetFeedbackResponse(feedback=messages.feedback_message(recorded))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: object) -> pb.ListFeedbackResponse:
        picks, page = requests.page_query_of(request)
        found, last = await self.submissions.records.page(picks, page)
        return messages.page_message(picks, found, last)
