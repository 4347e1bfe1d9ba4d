"""The other services over gRPC, each call for one merchant: the studio's token may name many, the call names one."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from perfusion.v1 import feedback_service_pb2, generation_service_pb2, group_pb2, release_pb2, user_pb2
from perfusion.v1 import user_embedding_service_pb2 as users_pb
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from services.runtime import errors, tracing
from services.runtime.callers import ACTING_FOR
from services.runtime.certificates import marks
from services.runtime.clients import check_serving
from services.runtime.statuses import details_of, violations_of
from services.studio.ports import Platform

_log = logging.getLogger(__name__)

GENERATE = "perfusion.v1.GenerationService/Generate"
MOST_SUGGESTIONS = 12
GROUPS_A_PAGE = 20
_ERRORS: Mapping[grpc.StatusCode, type[errors.ServiceError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED)
Answer = TypeVar("Answer")


class Token:
    """The studio's token, read again when its file changes; "" without a file, in clear text."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seen: object = None
        self._token = ""

    def current(self) -> str:
        if self._file is not None and (seen := marks(self._file)) != self._seen:
            try:
                self._token = self._file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise errors.Unavailable("token", f"cannot be read: {error.strerror}") from error
            self._seen = seen
        return self._token


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
        self._token = token
        self._timeout_s = timeout_s

    async def generate(
        self, request: generation_service_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[generation_service_pb2.GenerateResponse]:
        stream: Any = self._generation.Generate(request, timeout=timeout_s, metadata=self._metadata(request.user_id))
        try:
            async for response in stream:
                yield response
        except grpc.aio.AioRpcError as error:
            raise _translated(error, "generation service") from error
        finally:
            stream.cancel()

    async def group(self, user_id: str, group_id: str, *, with_pictures: bool) -> group_pb2.Group:
        view = generation_service_pb2.GROUP_VIEW_FULL if with_pictures else generation_service_pb2.GROUP_VIEW_BASIC
        request = generation_service_pb2.GetGroupRequest(group_id=group_id, view=view)
        answer = await self._call(self._generation.GetGroup, request, "generation service", user_id)
        if answer.group.user_id != user_id:  # the service has refused it already
            raise errors.NotFound("group_id: there is no such group", field="group_id")
        return answer.group

    async def groups(self, user_id: str, page_token: str) -> generation_service_pb2.ListGroupsResponse:
        request = generation_service_pb2.ListGroupsRequest(
            user_id=user_id, page_size=GROUPS_A_PAGE, page_token=page_token
        )
        return await self._call(self._generation.ListGroups, request, "generation service", user_id)

    async def suggestions(
        self, user_id: str, prompt: str, prefix: str
    ) -> generation_service_pb2.SuggestPhrasesResponse:
        request = generation_service_pb2.SuggestPhrasesRequest(
            user_id=user_id, prompt=prompt, prefix=prefix, max_suggestions=MOST_SUGGESTIONS
        )
        return await self._call(self._generation.SuggestPhrases, request, "generation service", user_id)

    async def release(self) -> release_pb2.ReleaseInfo:
        request = generation_service_pb2.GetReleaseInfoRequest()
        return (await self._call(self._generation.GetReleaseInfo, request, "generation service", "")).info

    async def profile(self, user_id: str) -> Mapping[str, user_pb2.FeatureValue] | None:
        request = users_pb.GetUserProfileRequest(user_id=user_id)
        try:
            answer = await self._call(self._users.GetUserProfile, request, "user embedding service", user_id)
        except errors.NotFound:
            return None
        return answer.profile.features

    async def put_profile(self, user_id: str, features: Mapping[str, user_pb2.FeatureValue]) -> None:
        request = users_pb.PutUserProfileRequest(user_id=user_id, features=features)
        await self._call(self._users.PutUserProfile, request, "user embedding service", user_id)

    async def submit_pick(self, request: feedback_service_pb2.SubmitFeedbackRequest) -> None:
        await self._call(self._feedback.SubmitFeedback, request, "feedback service", request.user_id)

    async def pick(self, user_id: str, group_id: str) -> feedback_service_pb2.Feedback | None:
        request = feedback_service_pb2.GetFeedbackRequest(user_id=user_id, group_id=group_id)
        try:
            return (await self._call(self._feedback.GetFeedback, request, "feedback service", user_id)).feedback
        except errors.NotFound:
            return None

    async def check(self) -> None:
        name = "generation service"
        await check_serving(self._generation_channel, GENERATE, name=name, timeout_s=self._timeout_s)

    async def _call(self, method: Callable[..., Awaitable[Answer]], request: object, name: str, user_id: str) -> Answer:
        try:
            return await method(request, timeout=self._timeout_s, metadata=self._metadata(user_id))
        except grpc.aio.AioRpcError as error:
            raise _translated(error, name) from error

    def _metadata(self, user_id: str) -> tuple[tuple[str, str | bytes], ...]:
        found: list[tuple[str, str | bytes]] = []
        if trace := tracing.traceparent():
            found.append(("traceparent", trace))
        if token := self._token.current():
            found.append(("authorization", f"Bearer {token}"))
            if user_id:
                found.append((ACTING_FOR, user_id.encode()))
        return tuple(found)


def _translated(error: grpc.aio.AioRpcError, name: str) -> Exception:
    """What a service answered, as an error of ours; a status that no merchant can have caused stays what it is."""
    code = error.code()
    if code == grpc.StatusCode.INVALID_ARGUMENT and (violations := violations_of(error.trailing_metadata())):
        return errors.InvalidArgument(*violations)
    found: errors.ServiceError
    if code in _GONE:
        found = errors.Unavailable(name)
    elif code is grpc.StatusCode.UNAUTHENTICATED:
        _log.error("%s does not let the studio in, see PERFUSION_TOKEN: %s", name, error.details())
        found = errors.Unavailable(name, "does not let the studio in")
    elif code in _ERRORS:
        found = _ERRORS[code](error.details() or "")
    else:
        return error
    for detail in details_of(error.trailing_metadata()):
        if isinstance(detail, RetryInfo) and found.retry_after_s is not None:
            found.retry_after_s = detail.retry_delay.ToTimedelta().total_seconds()
    return found
