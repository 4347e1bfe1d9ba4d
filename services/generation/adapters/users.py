"""The user embedding service over gRPC.

It knows its messages; the runtime handles deadlines, traces and errors. It does not know the vectors' use.
"""

import grpc
import numpy as np
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from contract.history import HistoryVersion
from contract.release import Release
from services.generation.orders import Features, User
from services.generation.ports import Users
from services.runtime.clients import call, check_serving
from services.runtime.errors import FailedPrecondition, Unavailable

_NAME = "user embedding service"
_METHOD = "perfusion.v1.UserEmbeddingService/GetUserEmbedding"  # GetUserProfile needs no more than it does


class GrpcUsers(Users):
    """Users behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = UserEmbeddingServiceStub(channel)
        self._timeout_s = timeout_s

    async def vectors(self, user_id: str, release: Release) -> User:
        request = pb.GetUserEmbeddingRequest(user_id=user_id, release=release.number)
        try:
            answer = await call(self._stub.GetUserEmbedding, request, name=_NAME, timeout_s=self._timeout_s)
        except FailedPrecondition as error:  # our caller did not choose the release
            raise Unavailable(_NAME, f"does not have release {release.number}") from error
        embedding, phrases = answer.embedding, release.manifest.in_use.phrases
        if embedding.release != release.number:  # never mix vectors of one release with models of another
            raise Unavailable(_NAME, f"answered with release {embedding.release}, not {release.number}")
        if len(embedding.favours) != phrases:  # a favour's phrase follows from its place in the vocabulary
            raise Unavailable(_NAME, f"answered with {len(embedding.favours)} favours for {phrases} phrases")
        return User(
            features=await self._features(answer, user_id),
            reward_text=np.asarray(embedding.reward_text_user, np.float32),
            reward_image=np.asarray(embedding.reward_image_user, np.float32),
            generator=np.asarray(embedding.generator_user, np.float32),
            favours=np.asarray(embedding.favours, np.float32),
            history=HistoryVersion(embedding.history.sequence, embedding.history.groups),
        )

    async def _features(self, answer: pb.GetUserEmbeddingResponse, user_id: str) -> Features:
        """Of the answer; a replica of before it had a profile is asked for it."""
        if answer.HasField("profile"):
            return dict(answer.profile.features)
        request = pb.GetUserProfileRequest(user_id=user_id)
        asked = await call(self._stub.GetUserProfile, request, name=_NAME, timeout_s=self._timeout_s)
        return dict(asked.profile.features)

    async def check(self) -> None:
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)
