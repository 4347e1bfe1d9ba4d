"""The other services over gRPC, each call for one merchant: the studio's token may name many, the call names one."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc
from perfusion.v1 import feedback_service_pb2, generation_service_pb2, group_pb2, release_pb2, user_pb2
from perfusion.v1 import user_embedding_service_pb2 as users_pb
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from services.runtime import errors
from services.runtime.clients import check_serving
from services.studio.adapters.calls import NOBODY, Calls, Token
from services.studio.ports import Platform

GENERATE = "perfusion.v1.GenerationService/Generate"
MOST_SUGGESTIONS = 12
GROUPS_A_PAGE = 20


class GrpcPlatform(Platform):
    """By one channel to each service."""

    def __init__(
        self,
        users: grpc.aio.Channel,
        generation: grpc.aio.Channel,
        feedback: grpc.aio.Channel,
        token: Token,
        *,
        timeout_s: float,
    ) -> None:
        self._users = UserEmbeddingServiceStub(users)
        self._generation = GenerationServiceStub(generation)
        self._feedback = FeedbackServiceStub(feedback)
        self._generation_channel = generation
        self._of_users = Calls("user embedding service", token, timeout_s=timeout_s)
        self._of_generation = Calls("generation service", token, timeout_s=timeout_s)
        self._of_feedback = Calls("feedback service", token, timeout_s=timeout_s)

    async def generate(
        self, request: generation_service_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[generation_service_pb2.GenerateResponse]:
        stream: Any = self._generation.Generate(
            request, timeout=timeout_s, metadata=self._of_generation.metadata(request.user_id)
        )
        try:
            async for response in stream:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._of_generation.translated(error) from error
        finally:
            stream.cancel()

    async def group(self, user_id: str, group_id: str, *, with_pictures: bool) -> group_pb2.Group:
        view = generation_service_pb2.GROUP_VIEW_FULL if with_pictures else generation_service_pb2.GROUP_VIEW_BASIC
        request = generation_service_pb2.GetGroupRequest(group_id=group_id, view=view)
        answer = await self._of_generation.call(self._generation.GetGroup, request, user_id)
        if answer.group.user_id != user_id:  # the service has refused it already
            raise errors.NotFound("group_id: there is no such group", field="group_id")
        return answer.group

    async def groups(self, user_id: str, page_token: str) -> generation_service_pb2.ListGroupsResponse:
        request = generation_service_pb2.ListGroupsRequest(
            user_id=user_id, page_size=GROUPS_A_PAGE, page_token=page_token
        )
        return await self._of_generation.call(self._generation.ListGroups, request, user_id)

    async def suggestions(
        self, user_id: str, prompt: str, prefix: str
    ) -> generation_service_pb2.SuggestPhrasesResponse:
        request = generation_service_pb2.SuggestPhrasesRequest(
            user_id=user_id, prompt=prompt, prefix=prefix, max_suggestions=MOST_SUGGESTIONS
        )
        return await self._of_generation.call(self._generation.SuggestPhrases, request, user_id)

    async def release(self) -> release_pb2.ReleaseInfo:
        request = generation_service_pb2.GetReleaseInfoRequest()
        return (await self._of_generation.call(self._generation.GetReleaseInfo, request, NOBODY)).info

    async def profile(self, user_id: str) -> Mapping[str, user_pb2.FeatureValue] | None:
        request = users_pb.GetUserProfileRequest(user_id=user_id)
        try:
            answer = await self._of_users.call(self._users.GetUserProfile, request, user_id)
        except errors.NotFound:
            return None
        return answer.profile.features

    async def put_profile(self, user_id: str, features: Mapping[str, user_pb2.FeatureValue]) -> None:
        request = users_pb.PutUserProfileRequest(user_id=user_id, features=features)
        await self._of_users.call(self._users.PutUserProfile, request, user_id)

    async def submit_pick(self, request: feedback_service_pb2.SubmitFeedbackRequest) -> None:
        await self._of_feedback.call(self._feedback.SubmitFeedback, request, request.user_id)

    async def pick(self, user_id: str, group_id: str) -> feedback_service_pb2.Feedback | None:
        request = feedback_service_pb2.GetFeedbackRequest(user_id=user_id, group_id=group_id)
        try:
            return (await self._of_feedback.call(self._feedback.GetFeedback, request, user_id)).feedback
        except errors.NotFound:
            return None

    async def check(self) -> None:
        calls = self._of_generation
        await check_serving(self._generation_channel, GENERATE, name=calls.name, timeout_s=calls.timeout_s)
