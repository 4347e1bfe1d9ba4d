"""A platform whose rounds a test leads by hand."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from uuid import uuid4

from perfusion.v1 import feedback_service_pb2, group_pb2, release_pb2, user_pb2
from perfusion.v1 import generation_service_pb2 as pb

from services.runtime.errors import NotFound, ServiceError
from services.studio.ports import Platform


def asked(user_id: str = "store-1", request_id: str = "") -> pb.GenerateRequest:
    return pb.GenerateRequest(request_id=request_id or str(uuid4()), user_id=user_id, prompt="dress", seed=7)


def step(number: int, of: int, *previews: bytes) -> pb.GenerateResponse:
    return pb.GenerateResponse(progress=pb.GenerateProgress(step=number, num_steps=of, previews=previews))


def queued(position: int) -> pb.GenerateResponse:
    return pb.GenerateResponse(queued=pb.GenerateQueued(position=position))


def group(group_id: str = "group-1") -> pb.GenerateResponse:
    return pb.GenerateResponse(group=group_pb2.Group(group_id=group_id))


class LedPlatform(Platform):
    """`say` and `fail` are what the next call of Generate hears; `groups_kept` is what it can show."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[pb.GenerateResponse | ServiceError | None] = asyncio.Queue()
        self.requests: list[pb.GenerateRequest] = []
        self.running = 0
        self.groups_kept: dict[tuple[str, str], group_pb2.Group] = {}
        self.group_calls = 0

    def say(self, *responses: pb.GenerateResponse, ends: bool = False) -> None:
        for response in responses:
            self.said.put_nowait(response)
        if ends:
            self.said.put_nowait(None)

    def fail(self, error: ServiceError) -> None:
        self.said.put_nowait(error)

    async def generate(self, request: pb.GenerateRequest, timeout_s: float) -> AsyncGenerator[pb.GenerateResponse]:
        self.requests.append(request)
        self.running += 1
        try:
            while (said := await self.said.get()) is not None:
                if isinstance(said, ServiceError):
                    raise said
                yield said
        finally:
            self.running -= 1

    async def group(self, user_id: str, group_id: str, *, with_pictures: bool) -> group_pb2.Group:
        self.group_calls += 1
        await asyncio.sleep(0)
        if (user_id, group_id) not in self.groups_kept:
            raise NotFound("no such group")
        return self.groups_kept[user_id, group_id]

    async def groups(self, user_id: str, page_token: str) -> pb.ListGroupsResponse:
        raise NotImplementedError

    async def suggestions(self, user_id: str, prompt: str, prefix: str) -> pb.SuggestPhrasesResponse:
        raise NotImplementedError

    async def release(self) -> release_pb2.ReleaseInfo:
        raise NotImplementedError

    async def profile(self, user_id: str) -> Mapping[str, user_pb2.FeatureValue] | None:
        raise NotImplementedError

    async def put_profile(self, user_id: str, features: Mapping[str, user_pb2.FeatureValue]) -> None:
        raise NotImplementedError

    async def submit_pick(self, request: feedback_service_pb2.SubmitFeedbackRequest) -> None:
        raise NotImplementedError

    async def pick(self, user_id: str, group_id: str) -> feedback_service_pb2.Feedback | None:
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError


def stages(states: Sequence[object]) -> list[str]:
    return [getattr(state, "stage", "") for state in states]
