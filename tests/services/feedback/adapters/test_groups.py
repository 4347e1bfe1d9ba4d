"""Groups as the generation service tells of them: ids without pictures, and none for an unknown id."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import pytest
import pytest_asyncio
from perfusion.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.feedback.adapters.groups import GrpcGroups
from services.feedback.picks import ShownGroup
from services.runtime.errors import Unavailable
from services.runtime.health import Dependency, methods_of
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.feedback.fakes import GROUP_ID, IMAGE_IDS, OWNER, RELEASE, OneGroup
from tests.services.running import LOCAL, running

SERVICE = "perfusion.v1.GenerationService"


@pytest.fixture
def generation() -> OneGroup:
    return OneGroup()


async def broken() -> None:
    raise Unavailable("part")


def server_of(generation: OneGroup, without: str = "") -> Server:
    """A generation service that can serve every method but one."""
    needs = {method: [Dependency("part", broken)] if method == without else [] for method in methods_of(SERVICE)}
    register: Any = partial(add_GenerationServiceServicer_to_server, cast(Any, generation))
    return Server(
        RuntimeSettings(**LOCAL), service=SERVICE, register=register, needs=needs, registry=CollectorRegistry()
    )


@pytest_asyncio.fixture
async def groups(generation: OneGroup) -> AsyncIterator[GrpcGroups]:
    async with running(server_of(generation)) as channel:
        yield GrpcGroups(channel, timeout_s=5)


@pytest.mark.parametrize("without", ["Generate", "GetGroup", "ListGroups"])
async def test_its_check_asks_for_what_a_group_without_pictures_needs(generation: OneGroup, without: str) -> None:
    """GetGroup's health includes the object store, which the view without pictures does not need."""
    server = server_of(generation, without)
    async with running(server) as channel:
        await server.poll_health()
        groups = GrpcGroups(channel, timeout_s=5)
        if without == "ListGroups":
            with pytest.raises(Unavailable, match="cannot serve ListGroups"):
                await groups.check()
        else:
            await groups.check()


async def test_a_group_is_its_owner_release_and_pictures_as_shown(groups: GrpcGroups) -> None:
    assert await groups.get([GROUP_ID]) == {GROUP_ID: ShownGroup(GROUP_ID, OWNER, RELEASE, tuple(IMAGE_IDS))}


async def test_an_unknown_group_is_left_out(groups: GrpcGroups) -> None:
    assert set(await groups.get([GROUP_ID[:-1] + "b", GROUP_ID])) == {GROUP_ID}


async def test_a_service_that_does_not_answer_is_unavailable(groups: GrpcGroups, generation: OneGroup) -> None:
    generation.down = True
    with pytest.raises(Unavailable, match="generation service"):
        await groups.get(GROUP_ID)
