"""A service that is told to stop leaves a round in flight to whoever is asked for it next, at once."""

import asyncio
from pathlib import Path

import grpc
import pytest

from services.generation.settings import Settings
from tests.services.generation.conftest import Studio, request
from tests.services.running import failing, running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """It holds in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/generation.sqlite"
    return str(request.getfixturevalue("postgres").new_database())


async def test_a_round_that_a_stop_cuts_off_begins_anew_elsewhere_without_waiting(settings: Settings) -> None:
    settings = settings.model_copy(update={"round_lease_s": 300.0})
    asked, stopped, other = request(), Studio(settings), Studio(settings)
    stopped.models.hold = asyncio.Event()
    await stopped.server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{stopped.server.port}") as channel,
        running(other.server) as to_other,
    ):
        call = stopped.connect(channel).stub.Generate(asked)
        await call.read()
        await stopped.models.stepped.wait()
        async with failing() as failure:
            stopping = asyncio.create_task(stopped.server.stop())
            while await call.read() is not grpc.aio.EOF:
                pass
        await stopping
        assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
        async with asyncio.timeout(60):  # a fifth of the lease
            group = await other.connect(to_other).group(asked)
        assert [each.group_id for each in await other.groups_of("ada")] == [group.group_id]


async def test_calls_that_wait_for_anothers_round_take_none_of_its_places(settings: Settings) -> None:
    studio = Studio(settings.model_copy(update={"max_concurrent_rounds": 1, "max_waiting_calls": 2}))
    studio.models.hold = asyncio.Event()
    asked = request()
    async with running(studio.server) as channel:
        studio.connect(channel)
        first = asyncio.create_task(studio.group(asked))
        await studio.models.stepped.wait()
        followers = [asyncio.create_task(studio.group(asked)) for _ in range(3)]
        done, waiting = await asyncio.wait(followers, return_when=asyncio.FIRST_COMPLETED)
        [refused] = done
        error = refused.exception()
        assert isinstance(error, grpc.aio.AioRpcError) and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert studio.ended("refused") == 1
        async with failing() as failure:
            await studio.group(request())
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        assert studio.ended("refused") == 2
        studio.models.hold.set()
        groups = await asyncio.gather(first, *waiting)
        assert groups[0] == groups[1] == groups[2]
        await studio.group(request())


async def test_a_short_deadline_is_late_and_no_failure(settings: Settings) -> None:
    studio = Studio(settings)
    studio.models.hold = asyncio.Event()
    async with running(studio.server) as channel:
        studio.connect(channel)
        assert await studio.groups_of("ada") == []  # the database is there
        async with failing() as failure:
            await studio.stream(request(), timeout=2.0)
        assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(30):
            while not studio.ended("late"):
                await asyncio.sleep(0.02)
        assert studio.ended("failed") == studio.ended("cancelled") == 0
        failed = {"outcome": "failed", "release": "1", "arm": "live"}
        shown = studio.server._registry.get_sample_value("perfusion_groups_total", failed)
        assert shown == 0, "without a series that begins with 0, an alert would miss the first failure"


async def test_a_deadline_that_passes_while_waiting_for_anothers_round_is_counted(settings: Settings) -> None:
    studio = Studio(settings)
    studio.models.hold = asyncio.Event()
    asked = request()
    async with running(studio.server) as channel:
        studio.connect(channel)
        first = asyncio.create_task(studio.group(asked))
        await studio.models.stepped.wait()
        async with failing() as failure:
            await studio.stream(asked, timeout=1.0)
        assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(30):
            while not studio.ended("late"):
                await asyncio.sleep(0.02)
        studio.models.hold.set()
        await first
        assert (studio.ended("made"), studio.ended("late")) == (1, 1)
