"""The user embedding service's answers and refusals, as this service's callers may hear them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import (
    UserEmbeddingServiceServicer,
    add_UserEmbeddingServiceServicer_to_server,
)
from perfusion.v1.user_pb2 import FeatureValue, UserEmbedding, UserProfile
from prometheus_client import CollectorRegistry

from services.generation.adapters.users import GrpcUsers
from services.runtime.errors import FailedPrecondition, NotFound, Unavailable
from services.runtime.health import methods_of
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.market import PHRASES, release_of
from tests.services.running import LOCAL, running


class Answering(UserEmbeddingServiceServicer):
    """Has one answer for everybody."""

    def __init__(self, answer: UserEmbedding | Exception, profile: UserProfile | None = None) -> None:
        self._answer = answer
        self.profile = profile

    async def GetUserEmbedding(self, request: pb.GetUserEmbeddingRequest, context: Any) -> pb.GetUserEmbeddingResponse:
        if isinstance(self._answer, Exception):
            raise self._answer
        return pb.GetUserEmbeddingResponse(embedding=self._answer, profile=self.profile)

    async def GetUserProfile(self, request: pb.GetUserProfileRequest, context: Any) -> pb.GetUserProfileResponse:
        return pb.GetUserProfileResponse(profile=UserProfile(features={"style": FeatureValue(string_value="asked")}))


@asynccontextmanager
async def users_of(answer: UserEmbedding | Exception, profile: UserProfile | None = None) -> AsyncIterator[GrpcUsers]:
    server = Server(
        RuntimeSettings(**LOCAL),
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, Answering(answer, profile)),
        needs=dict.fromkeys(methods_of("perfusion.v1.UserEmbeddingService"), ()),
        registry=CollectorRegistry(),
    )
    async with running(server) as channel:
        yield GrpcUsers(channel, timeout_s=5)


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
    async with users_of(raised) as users:
        with pytest.raises(heard, match=said):
            await users.vectors("ada", release_of(9))


async def test_vectors_and_favours_are_of_the_release_asked_for() -> None:
    favours = [float(place) for place in range(PHRASES)]
    embedding = UserEmbedding(
        release=9, reward_text_user=[1, 2], reward_image_user=[5, 6], generator_user=[3, 4], favours=favours
    )
    profile = UserProfile(features={"style": FeatureValue(string_value="given")})
    async with users_of(embedding, profile) as users:
        user = await users.vectors("ada", release_of(9))
        assert (user.reward_text.tolist(), user.generator.tolist()) == ([1, 2], [3, 4])
        assert (user.reward_image.tolist(), user.features["style"].string_value) == ([5, 6], "given")
        assert user.favours.tolist() == favours
        with pytest.raises(Unavailable, match="answered with release 9, not 8"):
            await users.vectors("ada", release_of(8))


async def test_favours_that_do_not_fit_the_vocabulary_are_not_told_apart() -> None:
    async with users_of(UserEmbedding(release=9, favours=[1.0])) as users:
        with pytest.raises(Unavailable, match=f"1 favours for {PHRASES} phrases"):
            await users.vectors("ada", release_of(9))


async def test_a_replica_of_before_is_asked_for_the_profile() -> None:
    async with users_of(UserEmbedding(release=9, favours=[0.0] * PHRASES)) as users:
        assert (await users.vectors("ada", release_of(9))).features["style"].string_value == "asked"
