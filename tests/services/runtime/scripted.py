"""A RankingService that does what a test tells it, so that the runtime around it can be watched."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceServicer, add_RankingServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.runtime.health import Dependency
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.running import LOCAL

SERVICE = "perfusion.v1.RankingService"
Behaviour = Callable[[], Awaitable[None]]


class Scripted(RankingServiceServicer):
    """Runs the behaviour, then answers with release 1."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        await self._behaviour()
        return pb.RankResponse(release=1)


async def nothing() -> None:
    """The shortest behaviour."""


def server_doing(behaviour: Behaviour = nothing, dependencies: Sequence[Dependency] = (), **settings: Any) -> Server:
    """A server, not yet started."""
    return Server(
        RuntimeSettings(**(LOCAL | settings)),
        service=SERVICE,
        register=partial(add_RankingServiceServicer_to_server, Scripted(behaviour)),
        needs={"Rank": dependencies},
        registry=CollectorRegistry(),
    )
