"""The ranking service's refusals, as this service's callers may hear them."""

import time

import pytest

from services.generation.adapters import ranker as ranker_module
from services.generation.adapters.ranker import GrpcRanker
from services.runtime.deadlines import deadline_in
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.runtime.patience import outlasting
from tests.services.running import running
from tests.services.runtime.scripted import server_doing


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
            await GrpcRanker(channel, timeout_s=5).rank("ada", "dress", [b"png"], 9, None)
    if heard is Unavailable:
        assert "refused the pictures of release 9" in str(caught.value)


async def test_pictures_that_are_painted_outlast_a_ranking_that_is_gone() -> None:
    asked = 0

    async def gone_for_a_while() -> None:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise Unavailable("triton")

    async with running(server_doing(gone_for_a_while)) as channel:
        ranker = GrpcRanker(channel, timeout_s=5)
        with pytest.raises(Unavailable, match="ranking service"):
            await ranker.rank("ada", "dress", [], 1, None)
        assert asked == 1
        with outlasting():
            assert await ranker.rank("ada", "dress", [], 1, None) == []
    assert asked == 4


async def test_a_ranking_that_stays_away_holds_no_round_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker_module, "_BACK_WITHIN_S", 0.3)

    async def gone() -> None:
        raise Unavailable("triton")

    begin = time.monotonic()
    async with running(server_doing(gone)) as channel:
        with deadline_in(60.0), outlasting(), pytest.raises(Unavailable, match="ranking service"):
            await GrpcRanker(channel, timeout_s=5).rank("ada", "dress", [], 1, None)
    assert time.monotonic() - begin < 20


async def test_a_picture_without_a_score_is_no_ranking() -> None:
    async with running(server_doing()) as channel:
        with pytest.raises(Unavailable, match="scored 0 of 1 pictures"):
            await GrpcRanker(channel, timeout_s=5).rank("ada", "dress", [b"png"], 1, None)
