"""Rounds and their readers: who comes late, who is slow, what a crash, a stop and another replica leave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import update

from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from services.studio import following as module
from services.studio.adapters import tables
from services.studio.adapters.rounds import SqlRounds
from services.studio.following import CANCELLED, DONE, DRAWING, FAILED, LEAP, QUEUED, RANKING, WAITING, Following, State
from tests.services.studio.platforms import LedPlatform, asked, group, queued, stages, step

LEASE_S = 0.3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAVE_S", "BEAT_S", "LOOK_S", "TAKE_OVER_S"):
        monkeypatch.setattr(module, name, 0.02)


@pytest.fixture
def platform() -> LedPlatform:
    return LedPlatform()


def replica(platform: LedPlatform, database: Database, **options: float) -> Following:
    settings = {"timeout_s": 20.0, "lease_s": LEASE_S, "most": 4} | options
    return Following(platform, SqlRounds(database), now_us, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def taking_over(each: Following) -> AsyncIterator[None]:
    task = asyncio.create_task(each.take_over())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def all_of(following: Following, request_id: str, seen: int = -1, user_id: str = "store-1") -> list[State]:
    async with asyncio.timeout(10):
        return [state async for state in following.watch(user_id, request_id, seen)]


async def test_a_round_from_the_queue_to_its_group(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    reading = asyncio.create_task(all_of(following, request.request_id))
    for said in (queued(3), step(1, 2, b"a", b"b"), step(2, 2), group()):
        platform.say(said)
        await asyncio.sleep(0.01)
    assert (await following.state("store-1", request.request_id)).stage == RANKING  # no group before the stream's end
    platform.say(ends=True)
    states = await reading
    assert stages(states)[-1] == DONE
    assert {QUEUED, DRAWING, RANKING} <= set(stages(states))
    assert [state.number for state in states] == sorted({state.number for state in states})
    assert states[-1].group_id == "group-1"
    assert states[-1].previews == (b"a", b"b")
    await following.stop()


async def test_a_late_reader_hears_the_last_state_alone(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    platform.say(step(1, 1), group(), ends=True)
    states = await all_of(following, request.request_id)
    await until(lambda: not following._live)  # now it is in the store alone
    assert stages(await all_of(following, request.request_id, seen=states[0].number)) == [DONE]
    assert stages(await all_of(replica(platform, database), request.request_id)) == [DONE]
    await following.stop()


async def test_two_hundred_readers_miss_no_end(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    readers = [asyncio.create_task(all_of(following, request.request_id)) for _ in range(200)]
    await until(lambda: following.readers == 200)
    platform.say(*(step(number, 50) for number in range(1, 51)), group(), ends=True)
    assert {stages(await reader)[-1] for reader in readers} == {DONE}
    assert following.readers == 0
    await following.stop()


async def test_the_same_form_twice_is_one_round(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await asyncio.gather(*(following.begin(request) for _ in range(5)))
    await following.begin(request)
    platform.say(step(1, 1), group(), ends=True)
    await all_of(following, request.request_id)
    await following.begin(request)
    assert len(platform.requests) == 1
    await following.stop()


async def test_another_merchants_round_is_as_one_that_never_was(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    for call in (
        following.state("store-2", request.request_id),
        following.end("store-2", request.request_id),
        all_of(following, request.request_id, user_id="store-2"),
        following.begin(asked("store-2", request.request_id)),
    ):
        with pytest.raises(NotFound):
            await call
    assert [each.request_id for each in await following.running("store-1")] == [request.request_id]
    assert await following.running("store-2") == []
    await following.stop()


async def test_a_merchant_has_so_many_rounds_and_no_more(platform: LedPlatform, database: Database) -> None:
    following = replica(platform, database, most=2)
    for _ in range(2):
        await following.begin(asked())
    with pytest.raises(ResourceExhausted):
        await following.begin(asked())
    await following.begin(asked("store-2"))
    await following.stop()


async def test_what_does_not_answer_is_tried_again_with_the_same_request(
    platform: LedPlatform, database: Database
) -> None:
    following, request = replica(platform, database), asked()
    error = Unavailable("triton")
    error.retry_after_s = 0.02
    platform.say(step(1, 3))
    platform.fail(error)
    await following.begin(request)
    reading = asyncio.create_task(all_of(following, request.request_id))
    await until(lambda: len(platform.requests) == 2)
    platform.say(step(1, 3), step(3, 3), group(), ends=True)
    states = await reading
    assert WAITING in stages(states)
    assert stages(states)[-1] == DONE
    assert platform.requests == [request, request]
    await following.stop()


async def test_a_wrong_field_ends_the_round_and_is_named(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    platform.fail(InvalidArgument(("num_candidates", "must be 1 to 16")))
    await following.begin(request)
    last = (await all_of(following, request.request_id))[-1]
    assert (last.stage, last.reason) == (FAILED, "INVALID_ARGUMENT")
    await until(lambda: not following._live)
    kept = await following.state("store-1", request.request_id)
    assert kept.problems == (("num_candidates", "must be 1 to 16"),)
    await following.stop()


async def test_a_round_is_ended_from_another_replica(platform: LedPlatform, database: Database) -> None:
    holder, other, request = replica(platform, database), replica(platform, database), asked()
    await holder.begin(request)
    await until(lambda: platform.running == 1)
    await other.end("store-1", request.request_id)
    assert stages(await all_of(other, request.request_id))[-1] == CANCELLED
    await until(lambda: platform.running == 0)
    await holder.stop()


async def test_a_reader_at_another_replica_sees_the_round_to_its_end(platform: LedPlatform, database: Database) -> None:
    holder, other, request = replica(platform, database), replica(platform, database), asked()
    await holder.begin(request)
    reading = asyncio.create_task(all_of(other, request.request_id))
    platform.say(step(1, 2, b"a"))
    await asyncio.sleep(0.1)
    assert (await other.look("store-1", request.request_id)).state.previews == (b"a",)
    platform.say(step(2, 2), group(), ends=True)
    states = await reading
    assert stages(states)[-1] == DONE
    assert states[-1].num_previews == 1
    await holder.stop()


async def test_a_stopped_replicas_round_goes_on_at_once_elsewhere(platform: LedPlatform, database: Database) -> None:
    first, second, request = replica(platform, database), replica(platform, database, lease_s=3600), asked()
    await first.begin(request)
    platform.say(step(1, 2))
    await until(lambda: platform.said.empty())
    reading = asyncio.create_task(all_of(second, request.request_id))
    await first.stop()
    assert platform.running == 0
    async with taking_over(second):
        await until(lambda: len(platform.requests) == 2)
        platform.say(step(2, 2), group(), ends=True)
        states = await reading
    assert stages(states)[-1] == DONE
    assert states[-1].number > LEAP
    await second.stop()


async def test_a_replica_that_lost_its_round_writes_no_more(platform: LedPlatform, database: Database) -> None:
    slow, quick, request = replica(platform, database), replica(platform, database), asked()
    await slow.begin(request)
    await until(lambda: platform.running == 1)
    [found] = await SqlRounds(database).running()
    while await SqlRounds(database).take(found, "another") is None:  # its holder counts beats meanwhile
        [found] = await SqlRounds(database).running()
    await until(lambda: not slow._live)
    assert platform.running == 0
    [left] = await SqlRounds(database).running()
    assert left.holder == "another"
    await slow.stop()
    await quick.stop()


async def test_a_silent_replicas_round_is_taken_over_after_its_lease(platform: LedPlatform, database: Database) -> None:
    store, request = SqlRounds(database), asked()
    await store.add(module.Asked(request, now_us()), State(), "elsewhere.1.1.0", 4)
    following = replica(platform, database)
    async with taking_over(following):
        await asyncio.sleep(LEASE_S / 2)
        assert platform.requests == []
        platform.say(step(1, 1), group(), ends=True)
        assert stages(await all_of(following, request.request_id))[-1] == DONE
    await following.stop()


@pytest.mark.parametrize("seen", [1, 500, 10**15])
async def test_a_reader_that_claims_to_have_seen_more_waits_like_any_other(
    platform: LedPlatform, database: Database, seen: int
) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    reading = asyncio.create_task(all_of(following, request.request_id, seen))
    await asyncio.sleep(0.05)  # a reader that does not wait would keep the loop from here on
    platform.say(step(1, 1), group(), ends=True)
    assert stages(await reading)[-1] == DONE
    await following.stop()


async def test_many_forms_at_once_are_not_more_rounds_than_a_merchant_may_have(
    platform: LedPlatform, database: Database
) -> None:
    following = replica(platform, database, most=3)
    told = await asyncio.gather(*(following.begin(asked()) for _ in range(10)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in told) == ["NoneType"] * 3 + ["ResourceExhausted"] * 7
    assert len(await following.running("store-1")) == 3
    await following.stop()


async def test_a_request_id_is_one_rounds(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    other = asked(request_id=request.request_id)
    other.prompt = "skirt"
    with pytest.raises(AlreadyExists):
        await following.begin(other)
    again = asked(request_id=request.request_id)
    again.seed = 8  # which the studio draws itself
    await following.begin(again)
    await following.stop()


async def test_one_round_that_cannot_be_read_stops_no_other(platform: LedPlatform, database: Database) -> None:
    store, broken, good = SqlRounds(database), asked(), asked("store-2")
    for request in (broken, good):
        await store.add(module.Asked(request, now_us()), State(), "", 4)
    async with database.writing() as connection:
        rows = update(tables.rounds).where(tables.rounds.c.request_id == broken.request_id)
        await connection.execute(rows.values(state={"of": "another version"}))
    following = replica(platform, database)
    async with taking_over(following):
        platform.say(step(1, 1), group(), ends=True)
        assert stages(await all_of(following, good.request_id, user_id="store-2"))[-1] == DONE
    await following.stop()


async def test_a_round_that_is_over_keeps_no_pictures(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    request.reference_image = b"x" * 1000
    await following.begin(request)
    platform.say(step(1, 1, b"a"), group(), ends=True)
    await all_of(following, request.request_id)
    await until(lambda: not following._live)
    kept = await following.look("store-1", request.request_id)
    assert (kept.asked.request.reference_image, kept.state.previews) == (b"", ())
    await following.stop()


async def test_a_stop_while_the_store_is_away_ends_all_the_same(platform: LedPlatform, database: Database) -> None:
    class Away(SqlRounds):
        async def give_up(self, request_ids: Sequence[str], holder: str) -> None:
            raise Unavailable("database")

    following = Following(platform, Away(database), now_us, timeout_s=20.0, lease_s=LEASE_S, most=4)
    await following.begin(asked())
    await following.stop()
    assert platform.running == 0


async def test_a_stop_ends_readers_and_refuses_new_rounds(platform: LedPlatform, database: Database) -> None:
    following, request = replica(platform, database), asked()
    await following.begin(request)
    reading = asyncio.create_task(all_of(following, request.request_id))
    await until(lambda: following.readers == 1)
    await following.stop()
    assert DONE not in stages(await reading)
    with pytest.raises(Unavailable):
        await following.begin(asked())
