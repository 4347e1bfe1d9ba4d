"""The user embedding service's answers, as ranking takes them."""

from functools import partial
from typing import Any

import pytest
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import (
    UserEmbeddingServiceServicer,
    add_UserEmbeddingServiceServicer_to_server,
)
from perfusion.v1.user_pb2 import UserEmbedding
from prometheus_client import CollectorRegistry

from services.ranking.adapters.users import GrpcUsers
from services.runtime.errors import Unavailable
from services.runtime.health import methods_of
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.market import release_of
from tests.services.running import LOCAL, running


class OfRelease9(UserEmbeddingServiceServicer):
    """Answers with release 9's vectors, whatever was asked for."""

    async def GetUserEmbedding(self, request: pb.GetUserEmbeddingRequest, context: Any) -> pb.GetUserEmbeddingResponse:
        embedding = UserEmbedding(release=9, reward_text_user=[1, 2], reward_image_user=[3, 4])
        return pb.GetUserEmbeddingResponse(embedding=embedding)


async def test_vectors_are_of_the_release_asked_for_or_refused() -> None:
    server = Server(
        RuntimeSettings(**LOCAL),
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, OfRelease9()),
        needs=dict.fromkeys(methods_of("perfusion.v1.UserEmbeddingService"), ()),
        registry=CollectorRegistry(),
    )
    async with running(server) as channel:
        users = GrpcUsers(channel, timeout_s=5)
        user = await users.of_release("u", release_of(9))
        assert (user.text.tolist(), user.image.tolist()) == ([1, 2], [3, 4])
        with pytest.raises(Unavailable, match="answered with release 9, not 8"):
            await users.of_release("u", release_of(8))
