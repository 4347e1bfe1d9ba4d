"""A GenerationService whose methods do what a test tells them: one with a stream, one with a large answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry

from services.runtime.health import methods_of
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.running import LOCAL

SERVICE = "perfusion.v1.GenerationService"
PICTURE = bytes(2**20)  # more than a connection takes that nobody reads from


class Answering(GenerationServiceServicer):
    """`streams` tells what Generate yields, `gives` what GetGroup returns."""

    def __init__(self) -> None:
        self.ended = 0  # streams that have cleaned up
        self.closing: Callable[[], Awaitable[None]] | None = None  # how a stream cleans up
        self.streams: Callable[[], AsyncIterator[Any]] = pictures
        self.gives: Callable[[pb.GetGroupRequest], Any] = lambda _: pb.GetGroupResponse()

    async def Generate(self, request: pb.GenerateRequest, context: object) -> AsyncIterator[Any]:
        try:
            async for response in self.streams():
                yield response
        finally:
            if self.closing is not None:
                await self.closing()
            self.ended += 1

    async def GetGroup(self, request: pb.GetGroupRequest, context: object) -> Any:
        return self.gives(request)


async def pictures(number: int = 40) -> AsyncIterator[pb.GenerateResponse]:
    """More than any connection holds back."""
    for step in range(number):
        yield pb.GenerateResponse(progress=pb.GenerateProgress(step=step, previews=[PICTURE]))


def server_of(
    servicer: Answering, registry: CollectorRegistry | None = None, closers: Any = (), **settings: Any
) -> Server:
    """A server, not yet started."""
    return Server(
        RuntimeSettings(**(LOCAL | settings)),
        service=SERVICE,
        register=partial(add_GenerationServiceServicer_to_server, servicer),
        needs={method: [] for method in methods_of(SERVICE)},
        registry=registry or CollectorRegistry(),
        closers=closers,
    )
