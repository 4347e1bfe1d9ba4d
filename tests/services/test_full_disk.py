"""With a full disk below SQLite, no service begins what it might not finish: what has begun ends, and reads go on."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.tables import OUTBOX as FEEDBACK_OUTBOX
from services.feedback.adapters.tables import SCHEMA as FEEDBACK
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import SCHEMA as GENERATION
from services.generation.ports import Busy, Claim, Finished
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.runtime.leases import Watch
from services.runtime.migrations import Schema
from services.runtime.outbox import Outbox
from services.user_embedding.adapters.profiles import SqlProfiles
from services.user_embedding.adapters.tables import SCHEMA as USERS
from tests.services.feedback.adapters.test_records import FEEDBACK as PICK
from tests.services.running import database_threads_ended
from tests.services.user_embedding.adapters.test_profiles import PROFILE


class Disk:
    """The machine's, as it says how much is free."""

    free = 2**30

    def usage(self, _path: Path) -> tuple[int, int, int]:
        return shutil._ntuple_diskusage(2**30, 2**30 - self.free, self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(shutil, "disk_usage", found.usage)
    return found


@asynccontextmanager
async def database(folder: Path, schema: Schema) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{folder}/service.sqlite", schema, timeout_s=5)
    await opened.check()
    yield opened
    with pytest.raises(Unavailable, match="full disk"):  # so health says it of these methods
        await opened.check()
    await opened.check_reads()
    await opened.close()
    await database_threads_ended()


async def test_a_profile_is_refused_and_others_are_read(tmp_path: Path, disk: Disk) -> None:
    async with database(tmp_path, USERS) as opened:
        profiles = SqlProfiles(opened)
        await profiles.put(PROFILE)
        disk.free = 1000
        with pytest.raises(Unavailable, match="full disk"):
            await profiles.put(PROFILE)
        assert await profiles.get([PROFILE.user_id]) == {PROFILE.user_id: PROFILE}


async def test_no_round_begins_and_one_that_runs_ends(tmp_path: Path, disk: Disk) -> None:
    async with database(tmp_path, GENERATION) as opened:
        claims = SqlRoundClaims(opened, Watch(10.0))
        claim = await claims.claim("r", "f", 1)
        assert isinstance(claim, Claim)
        disk.free = 1000
        with pytest.raises(Unavailable, match="full disk"):
            await claims.claim("another", "f", 1)
        await claims.renew(claim)
        assert isinstance(await claims.claim("r", "f", 1), Busy)
        async with opened.transaction() as connection:
            await claims.finish(connection, claim, 1)
        assert await claims.claim("r", "f", 1) == Finished(claim.group_id, 1)  # its repeats get the group


async def test_no_pick_is_taken_and_those_taken_are_published(tmp_path: Path, disk: Disk) -> None:
    async with database(tmp_path, FEEDBACK) as opened:
        outbox = Outbox(opened, FEEDBACK_OUTBOX, lambda: 0, Watch(10.0))
        records = SqlRecords(opened, outbox)
        await records.add([PICK])
        disk.free = 1000
        with pytest.raises(Unavailable, match="full disk"):
            await records.add([PICK])
        [owed] = await outbox.claim([PICK.user_id], "token")
        await outbox.settle("token", [owed.event_id], {}, [PICK.user_id])
        assert (await outbox.backlog()).owed == 0
        assert [each is not None for each in await records.find([PICK.request_id])] == [True]
