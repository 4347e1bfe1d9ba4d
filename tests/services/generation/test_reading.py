"""Groups read back, listed by pages, and phrases suggested."""

import base64
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import generation_service_pb2 as pb

from services.generation.settings import Settings
from services.runtime.triton import Array, Tensors
from tests.services.generation.conftest import Studio, request
from tests.services.market import LOGIT_SCALE, REWARD_WIDTH
from tests.services.running import failing, running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Everything here holds in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/generation.sqlite"
    return str(request.getfixturevalue("postgres").new_database())


async def test_a_group_is_read_back_as_it_was_given(studio: Studio) -> None:
    group = await studio.group(request(scheduler=2, negative_prompt="blue"))
    assert (await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))).group == group


async def test_groups_are_listed_newest_first_by_pages_without_pictures(studio: Studio) -> None:
    made = [(await studio.group(request(num_steps=1))).group_id for _ in range(5)]
    await studio.group(request(user_id="bob"))
    listed: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        query = pb.ListGroupsRequest(user_id="ada", page_size=2, page_token=token)
        page = await studio.stub.ListGroups(query)
        assert all(not c.png and c.uri for g in page.groups for c in g.candidates)
        listed += [g.group_id for g in page.groups]
        token, pages = page.next_page_token, pages + 1
    assert listed == made[::-1] and pages == 3


async def test_a_token_of_another_users_list_is_refused(studio: Studio) -> None:
    for _ in range(2):
        await studio.group(request(num_steps=1))
    page = await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="ada", page_size=1))
    async with failing() as failure:
        await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="bob", page_token=page.next_page_token))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"page_token"}


@pytest.mark.parametrize(
    "position",
    [
        '["ada", Infinity, "g"]',
        '["ada", 1e30, "g"]',
        '["ada", 5, "\\u0000"]',
        "[1]",
        "{",
        pytest.param("[" * 200_000, id="deep"),
    ],
)
async def test_a_made_up_token_is_refused(studio: Studio, position: str) -> None:
    token = base64.urlsafe_b64encode(position.encode()).decode()
    async with failing() as failure:
        await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="ada", page_token=token))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"page_token"}


async def suggested(studio: Studio, **query: Any) -> list[tuple[str, str, float]]:
    answer = await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(**{"user_id": "ada", **query}))
    assert answer.release == 1
    return [(s.phrase, s.kind, round(s.score, 4)) for s in answer.suggestions]


async def test_phrases_that_the_user_would_reward_come_first(studio: Studio) -> None:
    """The fake reward model likes texts with exactly one word that the tokenizer does not know."""
    found = await suggested(studio, prompt="red", prefix="s")
    assert found == [
        ("sequins", "detail", LOGIT_SCALE / 2),
        ("sleeveless", "sleeve", 0.0),
        ("long sleeves", "sleeve", 0.0),
        ("bell sleeves", "sleeve", 0.0),
        ("hand-sewn ruffles", "detail", -LOGIT_SCALE / 2),
    ]
    assert await suggested(studio, prompt="red", prefix="s", max_suggestions=2) == found[:2]
    assert [model for model, *_ in studio.models.asked].count("user_encoder") == 1  # nobody is encoded once


async def test_a_phrase_is_compared_with_all_of_its_kind_whatever_was_typed(studio: Studio) -> None:
    assert await suggested(studio, prompt="red", prefix="seq") == [("sequins", "detail", LOGIT_SCALE / 2)]


async def test_suggestions_for_an_unknown_user_are_not_found(studio: Studio) -> None:
    async with failing() as failure:
        await suggested(studio, user_id="stranger")
    assert failure.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("model", "output", "width"), [("reward_text", "embedding", REWARD_WIDTH), ("user_encoder", "reward_text_user", 4)]
)
async def test_suggestions_from_what_is_no_number_are_refused(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, model: str, output: str, width: int
) -> None:
    def broken(inputs: Tensors) -> dict[str, Array]:
        return {output: np.full((len(next(iter(inputs.values()))), width), np.nan, np.float32)}

    monkeypatch.setattr(studio.models, f"_{model}", broken)
    async with failing() as failure:
        await suggested(studio, prompt="red")
    assert failure.code == grpc.StatusCode.UNAVAILABLE


async def test_a_prefix_that_nothing_completes_gives_nothing(studio: Studio) -> None:
    assert await suggested(studio, prefix="zz") == []


async def test_it_serves_just_while_what_it_needs_answers(settings: Settings) -> None:
    studio = Studio(settings)
    async with running(studio.server) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status() -> int:
            await studio.server.poll_health()
            query = health_pb2.HealthCheckRequest(service="perfusion.v1.GenerationService")
            return (await health.Check(query)).status

        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert await status() == serving
        for part in (studio.models, studio.events):
            part.down = True
            assert await status() == not_serving
            part.down = False
            assert await status() == serving
