"""The user embedding service over real gRPC and SQLite: profiles kept, judged and encoded."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub
from perfusion.v1.user_pb2 import FeatureValue, StringList

from contract.feature_schema import FeatureSchema
from contract.release import FEATURE_SCHEMA, release_dir
from services.user_embedding.__main__ import build
from services.user_embedding.settings import Settings
from tests.services.fake_models import FakeModels
from tests.services.fake_records import FakeRecords
from tests.services.market import PHRASES, SCHEMA, USER_WIDTH, write_release
from tests.services.running import LOCAL, failing, running

STYLE = FeatureValue(string_value="luxury")
AUDIENCE = FeatureValue(string_list_value=StringList(values=["men", "teens"]))
YEARS = FeatureValue(number_value=4)


@pytest.fixture
def models() -> FakeModels:
    return FakeModels([1, 2])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_release(tmp_path, 1)
    write_release(tmp_path, 2, current=False)
    write_release(tmp_path, 3, current=False)
    return Settings(database_url=f"sqlite:///{tmp_path}/users.sqlite", model_repository=tmp_path, **LOCAL)


@pytest_asyncio.fixture
async def channel(settings: Settings, models: FakeModels) -> AsyncIterator[grpc.aio.Channel]:
    async with running(build(settings, models, FakeRecords())) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return UserEmbeddingServiceStub(channel)


async def put(stub: Any, user_id: str, **features: FeatureValue) -> None:
    await stub.PutUserProfile(pb.PutUserProfileRequest(user_id=user_id, features=features))


async def test_a_profile_is_read_back_as_put(stub: Any) -> None:
    request = pb.PutUserProfileRequest(
        user_id="u", features={"style": STYLE, "audience": AUDIENCE, "years_open": YEARS}
    )
    answer = await stub.PutUserProfile(request)
    assert dict(answer.profile.features) == dict(request.features)
    assert answer.profile.update_time.seconds > 1_700_000_000
    assert (await stub.GetUserProfile(pb.GetUserProfileRequest(user_id="u"))).profile == answer.profile


async def test_an_embedding_says_whose_it_is_and_which_release_made_it(stub: Any) -> None:
    await put(stub, "u", style=STYLE, audience=AUDIENCE, years_open=YEARS)
    answer = await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u"))
    assert answer.profile == (await stub.GetUserProfile(pb.GetUserProfileRequest(user_id="u"))).profile
    embedding = answer.embedding
    assert (embedding.user_id, embedding.release) == ("u", 1)
    # (style 2, audience 1 3 0, years_open 3) as the fake encoder spells it, lowest digit first
    assert list(embedding.generator_user) == [1, 30312, 3, 0]
    assert (embedding.reward_text_user[2], embedding.reward_image_user[2]) == (1, 2)
    assert len(embedding.reward_text_user) == USER_WIDTH
    assert list(embedding.favours) == [1 + place for place in range(PHRASES)]
    assert list(embedding.unknown_features) == []


async def test_an_empty_profile_is_a_profile(stub: Any) -> None:
    await put(stub, "u")
    embedding = (await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u"))).embedding
    assert embedding.generator_user[1] == 0


async def test_a_changed_profile_changes_the_vectors_at_once(stub: Any) -> None:
    for style, expected in [("luxury", 2), ("boho", 3), ("luxury", 2)]:
        await put(stub, "u", style=FeatureValue(string_value=style))
        embedding = (await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u"))).embedding
        assert embedding.generator_user[1] == expected


async def test_a_value_that_a_newer_release_dropped_is_said_to_be_unknown(stub: Any, settings: Settings) -> None:
    await put(stub, "u", style=STYLE, years_open=YEARS)
    newer = FeatureSchema(
        (replace(SCHEMA.features[0], vocabulary=("minimalist", "boho", "classic")), *SCHEMA.features[1:])
    )
    newer.write(release_dir(settings.model_repository, 2) / FEATURE_SCHEMA)
    answer = await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u", release=2))
    assert list(answer.embedding.unknown_features) == ["style"]
    assert answer.embedding.generator_user[1] == 30000  # style is slot 0, years_open 3


async def test_another_release_is_used_when_named(stub: Any) -> None:
    await put(stub, "u", style=STYLE)
    for release in (1, 2):
        answer = await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u", release=release))
        assert answer.embedding.release == answer.embedding.generator_user[0] == release


async def test_a_batch_answers_in_the_order_asked(stub: Any, models: FakeModels) -> None:
    await put(stub, "a", style=FeatureValue(string_value="minimalist"))
    await put(stub, "b", style=FeatureValue(string_value="boho"))
    answer = await stub.BatchGetUserEmbeddings(pb.BatchGetUserEmbeddingsRequest(user_ids=["b", "a", "b"]))
    assert [e.user_id for e in answer.embeddings] == ["b", "a", "b"]
    assert [e.generator_user[1] for e in answer.embeddings] == [3, 1, 3]
    assert models.asked == [("user_encoder", 1, 2)]


async def test_unknown_users_are_not_found(stub: Any) -> None:
    await put(stub, "a")
    async with failing() as failure:
        await stub.GetUserProfile(pb.GetUserProfileRequest(user_id="b"))
    assert failure.code == grpc.StatusCode.NOT_FOUND
    async with failing() as failure:
        await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="b"))
    assert failure.code == grpc.StatusCode.NOT_FOUND and "user_id" in failure.message
    async with failing() as failure:
        await stub.BatchGetUserEmbeddings(pb.BatchGetUserEmbeddingsRequest(user_ids=["a", "b"]))
    assert failure.code == grpc.StatusCode.NOT_FOUND and "user_ids[1]" in failure.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", STYLE),
        ("style", FeatureValue(string_value="minimal")),
        ("style", FeatureValue(number_value=1)),
        ("style", FeatureValue()),
        ("audience", FeatureValue(string_value="men")),
        ("audience", FeatureValue(string_list_value=StringList(values=["teens", "women", "men", "kids"]))),
        ("years_open", FeatureValue(number_value=math.nan)),
        ("years_open", FeatureValue(number_value=51)),
    ],
)
async def test_a_bad_feature_is_named_and_the_old_profile_stays(stub: Any, name: str, value: FeatureValue) -> None:
    await put(stub, "u", years_open=YEARS)
    async with failing() as failure:
        await put(stub, "u", **{name: value})
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.fields) == [f"features[{name}]"]
    profile = (await stub.GetUserProfile(pb.GetUserProfileRequest(user_id="u"))).profile
    assert dict(profile.features) == {"years_open": YEARS}


async def test_a_thousand_bad_features_still_get_a_readable_answer(stub: Any) -> None:
    async with failing() as failure:
        await put(stub, "u", **{f"no-such-{i:04}-{'x' * 500}": STYLE for i in range(1000)})
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(failure.fields) >= 5
    async with failing() as failure:
        await stub.GetUserProfile(pb.GetUserProfileRequest(user_id="u"))
    assert failure.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\0b"])
async def test_a_bad_user_id_is_named_by_every_method(stub: Any, user_id: str) -> None:
    calls = [
        (stub.PutUserProfile, pb.PutUserProfileRequest(user_id=user_id), "user_id"),
        (stub.GetUserProfile, pb.GetUserProfileRequest(user_id=user_id), "user_id"),
        (stub.GetUserEmbedding, pb.GetUserEmbeddingRequest(user_id=user_id), "user_id"),
        (stub.BatchGetUserEmbeddings, pb.BatchGetUserEmbeddingsRequest(user_ids=["a", user_id]), "user_ids[1]"),
    ]
    for method, request, field in calls:
        async with failing() as failure:
            await method(request)
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and list(failure.fields) == [field]


@pytest.mark.parametrize("count", [0, 257])
async def test_a_batch_has_bounds(stub: Any, count: int) -> None:
    async with failing() as failure:
        await stub.BatchGetUserEmbeddings(pb.BatchGetUserEmbeddingsRequest(user_ids=["a"] * count))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and "user_ids" in failure.fields


async def test_releases_that_cannot_serve_are_told_apart(stub: Any) -> None:
    await put(stub, "u")
    for release, code in [(-1, "INVALID_ARGUMENT"), (99, "FAILED_PRECONDITION"), (3, "FAILED_PRECONDITION")]:
        for ask in (
            lambda n: stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u", release=n)),
            lambda n: stub.BatchGetUserEmbeddings(pb.BatchGetUserEmbeddingsRequest(user_ids=["u"], release=n)),
        ):
            async with failing() as failure:
                await ask(release)
            assert failure.code.name == code and "release" in failure.message, release


async def test_while_triton_is_down_calls_are_retryable_and_profiles_still_work(stub: Any, models: FakeModels) -> None:
    models.down = True
    await put(stub, "u")
    async with failing() as failure:
        await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u"))
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    models.down = False
    await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u"))


async def test_health_follows_the_database_and_triton(settings: Settings, models: FakeModels) -> None:
    server = build(settings, models, FakeRecords())
    async with running(server) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        asked = health_pb2.HealthCheckRequest(service="perfusion.v1.UserEmbeddingService")
        assert await server.poll_health() == {}
        assert (await check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        models.down = True
        assert list(await server.poll_health()) == ["triton"]
        assert (await check(asked)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        models.down = False
        assert await server.poll_health() == {}
        assert (await check(asked)).status == health_pb2.HealthCheckResponse.SERVING
