"""The other services over gRPC. It knows their messages; deadlines, traces and errors are the runtime's work."""

from collections.abc import Sequence

import grpc
import numpy as np
from perfusion.v1 import ranking_service_pb2, user_embedding_service_pb2
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from services.generation.orders import Scores, User
from services.generation.ports import Features, Ranker, Users
from services.runtime.clients import call, check_serving
from services.runtime.errors import FailedPrecondition, InvalidArgument, Unavailable


class GrpcUsers(Users):
    """UserEmbeddingService."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = UserEmbeddingServiceStub(channel)
        self._timeout_s = timeout_s

    async def vectors(self, user_id: str, release: int) -> User:
        request = user_embedding_service_pb2.GetUserEmbeddingRequest(user_id=user_id, release=release)
        try:
            answer = await call(
                self._stub.GetUserEmbedding, request, name="user embedding service", timeout_s=self._timeout_s
            )
        except FailedPrecondition as error:  # our caller did not choose the release
            raise Unavailable("user embedding service", f"does not have release {release}") from error
        embedding = answer.embedding
        if embedding.release != release:  # never mix vectors of one release with models of another
            raise Unavailable("user embedding service", f"answered with release {embedding.release}, not {release}")
        return User(
            reward_text=np.asarray(embedding.reward_text_user, np.float32),
            reward_image=np.asarray(embedding.reward_image_user, np.float32),
            generator=np.asarray(embedding.generator_user, np.float32),
        )

    async def features(self, user_id: str) -> Features:
        request = user_embedding_service_pb2.GetUserProfileRequest(user_id=user_id)
        answer = await call(
            self._stub.GetUserProfile, request, name="user embedding service", timeout_s=self._timeout_s
        )
        return dict(answer.profile.features)

    async def check(self) -> None:
        await check_serving(
            self._channel,
            "perfusion.v1.UserEmbeddingService",
            name="user embedding service",
            timeout_s=self._timeout_s,
        )


class GrpcRanker(Ranker):
    """RankingService."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = RankingServiceStub(channel)
        self._timeout_s = timeout_s

    async def rank(self, user_id: str, prompt: str, images: Sequence[bytes], release: int) -> Scores:
        request = ranking_service_pb2.RankRequest(user_id=user_id, prompt=prompt, images=images, release=release)
        try:
            answer = await call(self._stub.Rank, request, name="ranking service", timeout_s=self._timeout_s)
        except (FailedPrecondition, InvalidArgument) as error:  # our caller chose neither release nor pictures
            raise Unavailable("ranking service", f"refused the pictures of release {release}") from error
        if len(answer.scores) != len(images):
            raise Unavailable("ranking service", f"scored {len(answer.scores)} of {len(images)} pictures")
        return [(score.score, score.rank) for score in answer.scores]

    async def check(self) -> None:
        await check_serving(
            self._channel, "perfusion.v1.RankingService", name="ranking service", timeout_s=self._timeout_s
        )
