"""Phrases suggested over real gRPC, by a reward model of plain arithmetic."""

from typing import Any

import grpc
import numpy as np
import pytest
from perfusion.v1 import generation_service_pb2 as pb

from services.runtime.triton import Array, Tensors
from tests.services.generation.conftest import Studio
from tests.services.market import LOGIT_SCALE, REWARD_WIDTH
from tests.services.running import failing


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
    assert [model for model, *_ in studio.models.asked].count("user_encoder") == 1  # the empty profile is encoded once


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
