"""The user embedding service over gRPC.

Knows its messages; the runtime handles deadlines, traces and errors. Does not know the vectors' use.
"""

import grpc
import numpy as np
from perfusion.v1.user_embedding_service_pb2 import GetUserEmbeddingRequest
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from contract.release import Release
from services.ranking.ports import RewardUser, Users
from services.runtime.clients import call, check_serving
from services.runtime.errors import Unavailable

_NAME, _METHOD = "user embedding service", "perfusion.v1.UserEmbeddingService/GetUserEmbedding"


class GrpcUsers(Users):
    """Users behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = UserEmbeddingServiceStub(channel)
        self._timeout_s = timeout_s

    async def of_release(self, user_id: str, release: Release) -> RewardUser:
        request = GetUserEmbeddingRequest(user_id=user_id, release=release.number)
        answer = await call(self._stub.GetUserEmbedding, request, name=_NAME, timeout_s=self._timeout_s)
        embedding = answer.embedding
        if embedding.release != release.number:  # never mix vectors of one release with models of another
            raise Unavailable(_NAME, f"answered with release {embedding.release}, not {release.number}")
        return RewardUser(
            text=np.asarray(embedding.reward_text_user, np.float32),
            image=np.asarray(embedding.reward_image_user, np.float32),
        )

    async def check(self) -> None:
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)
