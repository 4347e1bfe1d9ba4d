"""The other services' refusals, as this service's callers may hear them."""

from functools import partial
from typing import Any

import pytest
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import (
    UserEmbeddingServiceServicer,
    add_UserEmbeddingServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry

from services.generation.clients import GrpcRanker, GrpcUsers
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.running import LOCAL, running
from tests.services.runtime.scripted import server_doing


class Refusing(UserEmbeddingServiceServicer):
    """Has no embedding for anybody."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def GetUserEmbedding(self, request: pb.GetUserEmbeddingRequest, context: Any) -> pb.GetUserEmbeddingResponse:
        raise self._error


@pytest.mark.parametrize(
    ("raised", "heard"),
    [
        (FailedPrecondition("release 9 is not loaded"), Unavailable),
        (InvalidArgument(("images[2]", "is broken")), Unavailable),
        (NotFound("no such user"), NotFound),
    ],
)
async def test_pictures_that_ranking_refuses_are_not_our_callers_fault(
    raised: Exception, heard: type[Exception]
) -> None:
    async def refuse() -> None:
        raise raised

    async with running(server_doing(refuse)) as channel:
        with pytest.raises(heard) as caught:
            await GrpcRanker(channel, timeout_s=5).rank("ada", "dress", [b"png"], 9)
    if heard is Unavailable:
        assert "refused the pictures of release 9" in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "heard", "said"),
    [
        (FailedPrecondition("release 9 is not loaded"), Unavailable, "does not have release 9"),
        (NotFound("no such user"), NotFound, "no such user"),
    ],
)
async def test_a_release_that_user_embedding_lacks_is_not_our_callers_fault(
    raised: Exception, heard: type[Exception], said: str
) -> None:
    server = Server(
        RuntimeSettings(**LOCAL),
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, Refusing(raised)),
        dependencies=[],
        registry=CollectorRegistry(),
    )
    async with running(server) as channel:
        with pytest.raises(heard, match=said):
            await GrpcUsers(channel, timeout_s=5).vectors("ada", 9)
