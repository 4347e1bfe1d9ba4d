"""The table of needs: which methods health calls SERVING while one of the things around the service is broken."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract.release import current_file
from services.generation.settings import Settings
from services.runtime.health import methods_of
from tests.services.generation.conftest import Studio
from tests.services.running import running

SERVICE = "perfusion.v1.GenerationService"
Breaking = Callable[[Studio], AbstractContextManager[None]]


def flag(name: str) -> Breaking:
    @contextmanager
    def broken(studio: Studio) -> Iterator[None]:
        part = getattr(studio, name)
        part.down = True
        yield
        part.down = False

    return broken


@contextmanager
def a_locked_database(studio: Studio) -> Iterator[None]:
    """Another writer holds the lock; readers go on."""
    with closing(
        sqlite3.connect(studio.settings.database_url.removeprefix("sqlite:///"), isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def a_store_gone(studio: Studio) -> Iterator[None]:
    """The disk of pictures is not mounted any more."""
    folder = Path(studio.settings.object_store_url.removeprefix("file://"))
    aside = folder.with_name("aside")
    shutil.move(folder, aside)
    folder.symlink_to(aside.with_name("unmounted"))
    yield
    folder.unlink()
    shutil.move(aside, folder)


@contextmanager
def no_release(studio: Studio) -> Iterator[None]:
    current = current_file(studio.settings.model_repository)
    number = current.read_text()
    current.unlink()
    yield
    current.write_text(number)


@pytest.mark.parametrize(
    ("breaking", "not_served"),
    [
        (flag("ranker"), {"Generate"}),
        (flag("events"), {"Generate"}),
        (flag("users"), {"Generate", "SuggestPhrases"}),
        (flag("models"), {"Generate", "SuggestPhrases"}),
        (a_locked_database, {"Generate"}),
        (a_store_gone, {"Generate", "GetGroup"}),
        (no_release, {"Generate", "SuggestPhrases", "GetReleaseInfo"}),
    ],
    ids=["ranking", "kafka", "user embedding", "triton", "locked database", "object store", "release"],
)
async def test_only_methods_that_need_it_are_not_served(
    settings: Settings, breaking: Breaking, not_served: set[str]
) -> None:
    studio = Studio(settings.model_copy(update={"database_timeout_s": 0.5}))
    async with running(studio.server) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        async def said() -> set[str]:
            answers = {
                m: await check(health_pb2.HealthCheckRequest(service=f"{SERVICE}/{m}")) for m in methods_of(SERVICE)
            }
            return {
                method for method, answer in answers.items() if answer.status != health_pb2.HealthCheckResponse.SERVING
            }

        await studio.server.poll_health()  # a first check makes what a later one reads
        assert await studio.server.poll_health() == {}
        assert await said() == set()
        with breaking(studio):
            await studio.server.poll_health()
            assert await said() == not_served
        assert await studio.server.poll_health() == {}
        assert await said() == set()
