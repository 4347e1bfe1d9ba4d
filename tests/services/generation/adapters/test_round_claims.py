"""One claim at a time on a round: kept while its owner works, taken over when it has gone, whatever clocks say."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from services.generation.adapters import round_claims
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import SCHEMA
from services.generation.ports import Busy, Claim, Finished
from services.runtime.database import Database
from services.runtime.errors import AlreadyExists, Unavailable
from services.runtime.leases import Watch
from tests.services.running import database_threads_ended, token_of_a_killed_process

LEASE_S = 10.0


class Replica:
    """One process's claims, and the clock that it watches others by."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.elapsed_s = 0.0
        self.claims = SqlRoundClaims(database, Watch(LEASE_S, lambda: self.elapsed_s))

    async def claim(self, request_id: str = "r", fingerprint: str = "f", release: int = 1) -> Claim | Finished | Busy:
        return await self.claims.claim(request_id, fingerprint, release)

    async def claimed(self, **changes: int) -> Claim:
        claim = await self.claim(**changes)
        assert isinstance(claim, Claim)
        return claim

    async def finish(self, claim: Claim) -> None:
        async with self.database.transaction() as connection:
            await self.claims.finish(connection, claim, claim.release)


@pytest_asyncio.fixture
async def replica(url: str) -> AsyncIterator[Callable[[], Replica]]:
    databases: list[Database] = []

    def made() -> Replica:
        databases.append(Database(url, SCHEMA, timeout_s=20))
        return Replica(databases[-1])

    yield made
    for database in databases:
        await database.close()
    await database_threads_ended()


async def test_calls_at_once_get_one_claim(replica: Callable[[], Replica]) -> None:
    replicas = [replica() for _ in range(4)]
    answers = await asyncio.gather(*(each.claim() for each in replicas for _ in range(3)))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert sum(isinstance(answer, Busy) for answer in answers) == 11


async def test_a_finished_round_is_given_again_and_only_to_its_own_request(replica: Callable[[], Replica]) -> None:
    one = replica()
    claim = await one.claimed(release=3)
    await one.finish(claim)
    assert await one.claim(release=4) == Finished(claim.group_id, 3)
    with pytest.raises(AlreadyExists):
        await one.claim(fingerprint="another")


async def test_a_call_cancelled_while_it_claims_leaves_no_claim(replica: Callable[[], Replica]) -> None:
    one, another = replica(), replica()
    await one.claim("a first contact")
    for moment in range(40):
        claiming = asyncio.create_task(one.claim(f"r{moment}"))
        await asyncio.sleep(moment / 4000)
        claiming.cancel()
        await asyncio.wait({claiming})
        if claiming.cancelled():
            assert isinstance(await another.claim(f"r{moment}"), Claim)


@pytest.mark.parametrize("jump_s", [-9 * 3600.0, 9 * 3600.0], ids=["clocks set back", "clocks set forward"])
async def test_a_claim_is_taken_over_when_its_owner_has_not_moved_for_a_lease(
    replica: Callable[[], Replica], monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    gone, survivor = replica(), replica()
    old = await gone.claimed(release=1)
    now_ns, now_s = time.time_ns(), time.time()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + int(jump_s * 1e9))
    monkeypatch.setattr(time, "time", lambda: now_s + jump_s)
    assert isinstance(await survivor.claim(), Busy)
    survivor.elapsed_s += LEASE_S - 0.1
    assert isinstance(await survivor.claim(), Busy)
    survivor.elapsed_s += 0.1
    new = await survivor.claimed(release=2)
    assert (new.group_id, new.release) == (old.group_id, 2)  # it begins anew on the release in service
    for write in (gone.claims.renew(old), gone.finish(old)):
        with pytest.raises(Unavailable, match="taken over"):
            await write
    await gone.claims.abandon(old)  # takes nothing from the new owner
    await survivor.finish(new)


async def test_the_round_of_a_process_that_was_killed_on_this_machine_begins_anew_at_once(
    replica: Callable[[], Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await token_of_a_killed_process()
    with monkeypatch.context() as patched:
        patched.setattr(round_claims, "new_token", lambda: gone)
        old = await replica().claimed()
    assert (await replica().claimed()).group_id == old.group_id


async def test_an_owner_that_renews_keeps_its_claim(replica: Callable[[], Replica]) -> None:
    owner, other = replica(), replica()
    claim = await owner.claimed()
    for _ in range(5):
        assert isinstance(await other.claim(), Busy)
        other.elapsed_s += LEASE_S - 0.1
        await owner.claims.renew(claim)
    await owner.finish(claim)


async def test_two_that_wait_for_a_dead_owner_do_not_both_get_its_claim(replica: Callable[[], Replica]) -> None:
    await replica().claimed()
    waiting = [replica(), replica()]
    for each in waiting:
        await each.claim()
        each.elapsed_s += LEASE_S
    answers = await asyncio.gather(*(each.claim() for each in waiting))
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy", "Claim"]


async def test_a_round_given_up_can_begin_at_once(replica: Callable[[], Replica]) -> None:
    one, other = replica(), replica()
    await one.claims.abandon(await one.claimed())
    assert isinstance(await other.claim(), Claim)


async def test_sweeping_ends_rounds_whose_owners_have_gone_and_no_others(replica: Callable[[], Replica]) -> None:
    gone, owner, sweeper = replica(), replica(), replica()
    await gone.claim("dead")
    alive = await owner.claim("alive")
    done = await gone.claim("done")
    assert isinstance(alive, Claim) and isinstance(done, Claim)
    await gone.finish(done)
    await sweeper.claims.sweep()
    sweeper.elapsed_s += LEASE_S
    await owner.claims.renew(alive)
    await sweeper.claims.sweep()
    late = replica()  # a process that has watched nothing yet
    assert isinstance(await late.claim("dead"), Claim)
    assert isinstance(await late.claim("alive"), Busy)
    assert isinstance(await late.claim("done"), Finished)
