"""The ranking service over real gRPC, beside the real user embedding service; only the models are arithmetic."""

import io
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.user_embedding_service_pb2 import GetUserEmbeddingRequest, PutUserProfileRequest
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub
from perfusion.v1.user_pb2 import UserEmbedding
from PIL import Image

from contract.repository import Repository
from services.ranking.__main__ import build
from services.ranking.adapters.users import GrpcUsers
from services.ranking.requests import query_of
from services.ranking.settings import Settings
from services.runtime import callers
from services.runtime.errors import PermissionDenied
from services.runtime.server import Server
from services.runtime.triton import Array, Tensors
from services.user_embedding.__main__ import build as build_user_embedding
from services.user_embedding.settings import Settings as UserEmbeddingSettings
from tests.contract.picture_makers import RGB, RGBA, chunk, exchanged, png
from tests.services import fake_models
from tests.services.fake_models import FakeModels, _text
from tests.services.fake_records import FakeRecords
from tests.services.market import IMAGE_SIZE_PX, LOGIT_SCALE, TEXT_TOKENS, USER_WIDTH, write_release
from tests.services.running import LOCAL, failing, running


@dataclass
class Judges:
    """The two running services, a client, and the models they share."""

    models: FakeModels
    user_embedding: Server
    ranking: Server
    stub: Any = field(repr=False)
    users: Any = field(repr=False)

    async def rank(self, *images: bytes, **changes: Any) -> pb.RankResponse:
        fields: dict[str, Any] = {"user_id": "u", "prompt": "red dress", "images": images}
        answer: pb.RankResponse = await self.stub.Rank(pb.RankRequest(**fields | changes))
        return answer


@pytest_asyncio.fixture
async def judges(tmp_path: Path) -> AsyncIterator[Judges]:
    for release in (1, 2, 3):
        write_release(tmp_path, release, current=release == 1)
    models = FakeModels([1, 2])
    database_url = f"sqlite:///{tmp_path}/users.sqlite"
    user_embedding = build_user_embedding(
        UserEmbeddingSettings(database_url=database_url, model_repository=tmp_path, **LOCAL), models, FakeRecords()
    )
    async with running(user_embedding) as users_channel:
        users = GrpcUsers(users_channel, timeout_s=5)
        ranking = build(Settings(model_repository=tmp_path, **LOCAL), models, users)
        async with running(ranking) as channel:
            stub = UserEmbeddingServiceStub(users_channel)
            await stub.PutUserProfile(PutUserProfileRequest(user_id="u"))
            yield Judges(models, user_embedding, ranking, RankingServiceStub(channel), stub)


def picture(red: int, size_px: int = IMAGE_SIZE_PX, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size_px, size_px), (red, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


GOOD = picture(255)
TWINS = [("dress", "long sleeves"), ("连衣裙", "长袖")]


async def test_scores_and_ranks_come_in_the_order_given(judges: Judges) -> None:
    answer = await judges.rank(picture(51), picture(255), picture(0), picture(102))
    assert [score.score for score in answer.scores] == pytest.approx([x * LOGIT_SCALE for x in (0.2, 1, 0, 0.4)])
    assert [score.rank for score in answer.scores] == [3, 1, 4, 2]
    assert answer.release == 1


async def test_equal_pictures_rank_in_the_order_given(judges: Judges) -> None:
    answer = await judges.rank(GOOD, GOOD, GOOD)
    assert [score.rank for score in answer.scores] == [1, 2, 3]


async def test_a_jpeg_of_another_size_is_fitted(judges: Judges) -> None:
    answer = await judges.rank(picture(0), picture(255, size_px=200, kind="JPEG"))
    assert [score.rank for score in answer.scores] == [2, 1]


async def test_another_release_is_used_throughout_when_named(judges: Judges) -> None:
    assert (await judges.rank(GOOD, release=2)).release == 2
    assert {release for _, release, _ in judges.models.asked} == {2}
    assert {model for model, _, _ in judges.models.asked} == {"user_encoder", "reward_text", "reward_image"}


async def test_the_most_pictures_allowed_are_ranked(judges: Judges) -> None:
    answer = await judges.rank(*[picture(i) for i in range(64)])
    assert [score.rank for score in answer.scores] == list(range(64, 0, -1))


def given(**changes: Any) -> dict[str, Any]:
    """A request of who has the vectors."""
    fields: dict[str, Any] = {"user_id": "u", "release": 1, "reward_text_user": [0.0] * USER_WIDTH}
    fields["reward_image_user"] = [1.0] * USER_WIDTH
    return {"release": 1, "embedding": UserEmbedding(**fields | changes)}


async def test_a_client_hands_in_no_vectors() -> None:
    callers.begin(callers.Caller("client/shop", frozenset({"u"})))
    with pytest.raises(PermissionDenied, match="embedding: only the platform's own parts"):
        query_of(pb.RankRequest(user_id="u", prompt="dress", images=[GOOD], **given()))
    callers.begin(callers.DEVELOPMENT)


async def test_vectors_that_the_caller_has_are_used_and_not_asked_for(judges: Judges) -> None:
    asked = (await judges.rank(GOOD, picture(0), release=1)).scores
    had = (await judges.users.GetUserEmbedding(GetUserEmbeddingRequest(user_id="u"))).embedding
    judges.models.asked.clear()
    assert (await judges.rank(GOOD, picture(0), release=1, embedding=had)).scores == asked
    assert {model for model, _, _ in judges.models.asked} == {"reward_text", "reward_image"}


@pytest.mark.parametrize(
    ("changes", "field_name"),
    [
        (given(user_id="other"), "embedding.user_id"),
        (given(release=2), "embedding.release"),
        (given() | {"release": 0}, "embedding.release"),
        (given(reward_text_user=[1.0]), "embedding.reward_text_user"),
        (given(reward_image_user=[float("nan")] * USER_WIDTH), "embedding.reward_image_user"),
        ({"images": []}, "images"),
        ({"images": [GOOD] * 65}, "images"),
        ({"images": [GOOD, b""]}, "images[1]"),
        ({"images": [GOOD, b"no picture", GOOD]}, "images[1]"),
        ({"images": [GOOD[:50]]}, "images[0]"),
        ({"images": [bytes(11 * 2**20)]}, "images[0]"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "x" * 10_000}, "prompt"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"release": -1}, "release"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
async def test_bad_input_is_named_and_reaches_no_model(
    judges: Judges, changes: dict[str, Any], field_name: str
) -> None:
    async with failing() as failure:
        await judges.rank(**{"images": [GOOD], **changes})
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.fields) == [field_name]
    assert judges.models.asked == []


async def test_a_small_file_that_unfolds_into_a_huge_picture_is_refused(judges: Judges) -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    async with failing() as failure:
        await judges.rank(GOOD, buffer.getvalue())
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "8000×8000" in failure.fields["images[1]"]


async def test_every_broken_picture_is_named(judges: Judges) -> None:
    async with failing() as failure:
        await judges.rank(b"x", GOOD, b"y")
    assert list(failure.fields) == ["images[0]", "images[2]"]


async def test_an_unknown_user_is_not_found(judges: Judges) -> None:
    async with failing() as failure:
        await judges.rank(GOOD, user_id="nobody")
    assert failure.code == grpc.StatusCode.NOT_FOUND and "user_id" in failure.message


@pytest.mark.parametrize("release", [99, 3], ids=["not there", "staged"])
async def test_a_release_that_is_not_loaded_is_a_failed_precondition(judges: Judges, release: int) -> None:
    async with failing() as failure:
        await judges.rank(GOOD, release=release)
    assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
    assert failure.message == f"release: release {release} is not loaded"


@pytest.mark.parametrize("named", [0, 3])
async def test_a_release_in_service_that_triton_has_not_loaded_yet_may_be_asked_for_again(
    judges: Judges, tmp_path: Path, named: int
) -> None:
    Repository(tmp_path).point(3, fallback=1)
    async with failing() as failure:
        await judges.rank(GOOD, release=named)
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable


async def test_while_triton_is_down_calls_are_retryable(judges: Judges) -> None:
    await judges.rank(GOOD)  # the user's vectors are remembered, so that the ranking's own calls are the ones to fail
    judges.models.down = True
    async with failing() as failure:
        await judges.rank(GOOD)
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert list(await judges.ranking.poll_health()) == ["triton"]
    judges.models.down = False
    await judges.rank(GOOD)


async def test_while_users_are_away_calls_are_retryable_and_health_says_whose_fault_it_is(judges: Judges) -> None:
    await judges.user_embedding.poll_health()
    assert await judges.ranking.poll_health() == {}
    await judges.user_embedding.stop()
    async with failing() as failure:
        await judges.rank(GOOD)
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert list(await judges.ranking.poll_health()) == ["user embedding service"]


async def test_phrases_that_the_reward_model_does_not_read_are_named(judges: Judges) -> None:
    long = " ".join(["red"] * TEXT_TOKENS)
    answer = await judges.rank(GOOD, prompt=f"dress，{long}\nred")
    assert list(answer.unread_phrases) == [long]
    assert not (await judges.rank(GOOD)).unread_phrases


async def test_labels_are_read_as_their_phrases(judges: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []

    def reading(inputs: Tensors, release: int) -> dict[str, Array]:
        read.append(inputs["input_ids"][0].tolist())
        return _text(inputs, release)

    monkeypatch.setattr(fake_models, "_text", reading)
    long = " ".join(["red"] * (TEXT_TOKENS - 4))  # beside it and "dress" there is room for nothing
    answers = [await judges.rank(GOOD, prompt=f"{dress},{long}，{sleeves}") for dress, sleeves in TWINS]
    assert read[0] == read[1]
    assert [list(answer.unread_phrases) for answer in answers] == [["long sleeves"], ["长袖"]]
    assert answers[0].scores == answers[1].scores


@pytest.mark.parametrize("prompt", ["，", "\u200b", " \n、\u3000"])
async def test_a_prompt_without_a_phrase_is_named(judges: Judges, prompt: str) -> None:
    async with failing() as failure:
        await judges.rank(GOOD, prompt=prompt)
    assert list(failure.fields) == ["prompt"]


async def test_pictures_are_scored_as_a_browser_shows_them(judges: Judges) -> None:
    """Half of red's light, in eight bits, in sixteen, and half transparent on white."""
    pictures = [
        picture(128),
        png((0x8000, 0, 0), 16, RGB, size=(IMAGE_SIZE_PX, IMAGE_SIZE_PX)),
        png((0, 0, 0, 127), 8, RGBA, size=(IMAGE_SIZE_PX, IMAGE_SIZE_PX)),
        png((0, 230, 0), 8, RGB, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(exchanged()))),
    ]
    scores = [score.score / LOGIT_SCALE for score in (await judges.rank(*pictures)).scores]
    assert scores == pytest.approx([128 / 255, 128 / 255, 128 / 255, 230 / 255], abs=0.01)
