"""One request_id, one group: repeats, races, cancellations, failures on the way and crashes."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.events_pb2 import GroupGenerated

from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.settings import Settings
from services.runtime.events import Event
from tests.services.generation.conftest import Studio, request
from tests.services.running import failing, running


def group_in(event: Event) -> str:
    return GroupGenerated.FromString(event.value).group_id


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Everything here holds in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/generation.sqlite"
    return str(request.getfixturevalue("postgres").new_database())


async def test_the_same_request_gives_the_same_group_and_one_event(studio: Studio) -> None:
    asked = request()
    first, second = await studio.group(asked), await studio.group(asked)
    assert first == second
    assert len(studio.events.published) == len(await studio.groups_of("ada")) == 1
    assert studio.models.steps == 4


async def test_the_same_id_in_capitals_is_the_same_request(studio: Studio) -> None:
    asked = request()
    capitals = request(request_id=asked.request_id.upper())
    assert (await studio.group(asked)) == (await studio.group(capitals))


@pytest.mark.parametrize("change", [{"prompt": "coat"}, {"user_id": "bob"}, {"seed": 8}, {"num_steps": 5}])
async def test_the_same_id_with_another_payload_is_refused(studio: Studio, change: dict[str, object]) -> None:
    asked = request()
    await studio.group(asked)
    async with failing() as failure:
        await studio.group(request(request_id=asked.request_id, **change))
    assert failure.code == grpc.StatusCode.ALREADY_EXISTS and not failure.retryable
    assert (studio.ended("made"), studio.ended("refused")) == (1, 1)
    assert len(await studio.groups_of("ada")) == 1


async def test_two_calls_at_once_make_one_group(studio: Studio) -> None:
    asked = request()
    groups = await asyncio.gather(*(studio.group(asked) for _ in range(4)))
    assert all(group == groups[0] for group in groups)
    assert studio.models.steps == 4 and len(studio.events.published) == 1


async def test_two_replicas_make_one_group(settings: Settings) -> None:
    asked = request()
    one, other = Studio(settings), Studio(settings)
    async with running(one.server) as to_one, running(other.server) as to_other:
        groups = await asyncio.gather(one.connect(to_one).group(asked), other.connect(to_other).group(asked))
    assert groups[0] == groups[1]
    assert one.models.steps + other.models.steps == 4
    assert len(one.events.published) + len(other.events.published) == 1


async def test_a_cancelled_round_stops_within_a_step_and_leaves_nothing(studio: Studio) -> None:
    call = studio.stub.Generate(request(num_steps=100))
    async for event in call:
        if event.progress.step == 3:
            break
    call.cancel()
    await asyncio.sleep(0.3)
    soon = studio.models.steps
    await asyncio.sleep(0.3)
    assert studio.models.steps == soon < 100
    assert await studio.groups_of("ada") == [] and studio.events.published == []


async def test_a_waiting_repeat_takes_over_when_the_first_is_cancelled(studio: Studio) -> None:
    studio.models.hold = asyncio.Event()
    asked = request()
    first = studio.stub.Generate(asked)
    await first.read()
    await studio.models.stepped.wait()
    second = asyncio.create_task(studio.group(asked))
    await asyncio.sleep(0.1)
    assert not second.done()
    first.cancel()
    studio.models.hold.set()
    group = await second
    assert [g.group_id for g in await studio.groups_of("ada")] == [group.group_id]
    assert len(studio.events.published) == 1


async def test_triton_gone_midway_is_waited_for_to_the_deadline_and_the_round_can_be_retried(studio: Studio) -> None:
    studio.models.failing_steps = range(3, 10_000)
    asked = request()
    assert await studio.groups_of("ada") == []  # the database is there
    async with failing() as failure:
        await studio.stream(asked, timeout=2.0)
    # Whether its last failure or the deadline comes first.
    assert failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert await studio.groups_of("ada") == [] and studio.events.published == []
    studio.models.failing_steps = range(0)
    assert (await studio.group(asked)).candidates
    assert len(await studio.groups_of("ada")) == 1


async def test_without_kafkas_acknowledgement_there_is_no_ok_and_a_retry_does_not_paint_again(studio: Studio) -> None:
    studio.events.down = True
    asked = request()
    async with failing() as failure:
        await studio.group(asked)
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert await studio.groups_of("ada") == []
    studio.events.down = False
    group = await studio.group(asked)
    assert studio.models.steps == 4
    assert [group_in(event) for event in studio.events.published] == [group.group_id]
    assert len(await studio.groups_of("ada")) == 1


async def test_a_group_without_acknowledgement_is_published_though_nobody_asks_again(settings: Settings) -> None:
    died, survivor = Studio(settings), Studio(settings.model_copy(update={"outbox_interval_s": 0.05}))
    died.events.down = True
    owed = request()
    async with running(died.server) as channel:
        async with failing() as failure:
            await died.connect(channel).group(owed)
        assert failure.code == grpc.StatusCode.UNAVAILABLE
    async with running(survivor.server) as channel:
        survivor.connect(channel)
        async with asyncio.timeout(60):
            while not (groups := await survivor.groups_of("ada")):
                await asyncio.sleep(0.05)
        [event] = survivor.events.published
        assert [group_in(event)] == [group.group_id for group in groups]
        assert (await survivor.group(owed)).group_id == group_in(event)
        assert len(survivor.events.published) == 1 and survivor.models.steps == 0


async def test_a_later_group_does_not_overtake_one_that_is_owed(studio: Studio) -> None:
    studio.events.down = True
    first, other = request(), request(user_id="bob")
    for asked in (first, other):
        async with failing():
            await studio.group(asked)
    studio.events.down = False
    second = await studio.group(request())
    earlier, later = studio.events.published  # the event of another merchant is not this call's to publish
    assert (group_in(earlier), group_in(later)) == ((await studio.group(first)).group_id, second.group_id)
    assert [group.group_id for group in await studio.groups_of("ada")] == [group_in(later), group_in(earlier)]


async def test_a_round_whose_process_died_can_be_retried_after_its_lease(settings: Settings) -> None:
    settings = settings.model_copy(update={"round_lease_s": 1.5})
    asked = request()
    died, survivor = Studio(settings), Studio(settings)
    died.models.hold = asyncio.Event()
    async with running(died.server) as to_died, running(survivor.server) as to_survivor:
        call = died.connect(to_died).stub.Generate(asked)
        await call.read()
        await died.models.stepped.wait()
        for task in asyncio.all_tasks():
            if task.get_name() == "renew":
                task.cancel()  # a dead process renews nothing
        group = await survivor.connect(to_survivor).group(asked)
        died.models.hold.set()
        async with failing() as failure:  # the one thought dead comes back, and must not make a second group
            while await call.read() is not grpc.aio.EOF:
                pass
        assert failure.code == grpc.StatusCode.UNAVAILABLE
        assert [g.group_id for g in await survivor.groups_of("ada")] == [group.group_id]
    assert died.events.published == []


async def test_a_long_round_keeps_its_claim(settings: Settings) -> None:
    studio = Studio(settings.model_copy(update={"round_lease_s": 3.0}))
    studio.models.hold = asyncio.Event()
    asked = request()
    async with running(studio.server) as channel:
        first = asyncio.create_task(studio.connect(channel).group(asked))
        await studio.models.stepped.wait()
        second = asyncio.create_task(studio.group(asked))
        await asyncio.sleep(3.8)
        steps_meanwhile = studio.models.steps
        studio.models.hold.set()
        assert (await first) == (await second)
        assert steps_meanwhile == 1


async def test_groups_outlive_the_process(settings: Settings, tmp_path: Path) -> None:
    asked = request()
    before, after = Studio(settings), Studio(settings)
    async with running(before.server) as channel:
        group = await before.connect(channel).group(asked)
    async with running(after.server) as channel:
        after.connect(channel)
        after.models.down = True
        assert (await after.group(asked)) == group
        assert (await after.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))).group == group


async def test_a_full_house_refuses_by_a_look_and_shows_what_is_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, claimed, claim = Studio(settings.model_copy(update={"max_concurrent_rounds": 1})), [], SqlRoundClaims.claim

    async def counted(self: SqlRoundClaims, request_id: str, *others: Any) -> Any:
        claimed.append(request_id)
        return await claim(self, request_id, *others)

    monkeypatch.setattr(SqlRoundClaims, "claim", counted)
    async with running(studio.server) as channel:
        before = await studio.connect(channel).group(earlier := request())
        studio.models.hold = asyncio.Event()
        studio.models.stepped.clear()
        first = asyncio.create_task(studio.group(request()))
        await studio.models.stepped.wait()
        async with failing() as failure:
            await studio.stream(request())
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(claimed) == 2, "the refused call has claimed nothing"
        assert studio.counted("perfusion_rounds_refused_total", why="no place") == 1
        assert await studio.group(earlier) == before
        assert [g.group_id for g in await studio.groups_of("ada")] == [before.group_id]
        assert studio.counted("perfusion_rounds_refused_total", why="no place") == 1
        studio.models.hold.set()
        group = await first
        assert [g.group_id for g in await studio.groups_of("ada")] == [group.group_id, before.group_id]
        studio.models.hold = None
        await studio.group(request())  # the place is free again


async def test_a_store_that_hangs_is_waited_for_in_bounded_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(settings.model_copy(update={"object_store_timeout_s": 0.3}))
    stuck = threading.Event()
    monkeypatch.setattr(FsspecPictures, "_put", lambda self, png: stuck.wait(30.0))
    async with running(studio.server) as channel:
        studio.connect(channel)
        begin = time.monotonic()
        async with failing() as failure:
            await studio.stream(request())
        assert failure.code == grpc.StatusCode.UNAVAILABLE and time.monotonic() - begin < 10.0
        stuck.set()
        assert await studio.groups_of("ada") == []
