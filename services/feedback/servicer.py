"""FeedbackService: requests checked and turned into work, and the outcome back into messages."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from perfusion.v1 import feedback_service_pb2 as pb
from perfusion.v1 import feedback_service_pb2_grpc as pb_grpc

from services.feedback import messages, requests
from services.feedback.importing import Imports
from services.feedback.room import Room
from services.feedback.submission import Submissions
from services.runtime.deadlines import remaining_s
from services.runtime.values import DAY_S

_WAITING = 0.8  # the share of a call's time that it waits for room: its refusal must reach the caller in time


@dataclass(frozen=True)
class FeedbackServicer(pb_grpc.FeedbackServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    submissions: Submissions
    imports: Imports
    room: Room

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: object) -> pb.SubmitFeedbackResponse:
        pick = requests.pick_of(request)
        async with self.room.taken(remaining_s(DAY_S) * _WAITING):
            return messages.response_of(await self.submissions.submit(pick))

    async def ImportFeedback(
        self, asked: AsyncIterator[pb.ImportFeedbackRequest], context: object
    ) -> AsyncGenerator[pb.ImportFeedbackResponse]:
        parts = (requests.part_of(request) async for request in asked)
        async with aclosing(self.imports.outcomes(parts)) as answers:
            async for outcomes in answers:
                yield messages.import_response(outcomes)

    async def GetFeedback(self, request: pb.GetFeedbackRequest, context: object) -> pb.GetFeedbackResponse:
        group_id, user_id = requests.group_query_of(request)
        recorded = await self.submissions.read(group_id, user_id)
        return pb.GetFeedbackResponse(feedback=messages.feedback_message(recorded))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: object) -> pb.ListFeedbackResponse:
        picks, page = requests.page_query_of(request)
        found, last = await self.submissions.records.page(picks, page)
        return messages.page_message(picks, found, last)
