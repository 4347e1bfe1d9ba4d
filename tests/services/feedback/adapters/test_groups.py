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
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.feedback.fakes import GROUP_ID, IMAGE_IDS, OWNER, RELEASE, OneGroup
from tests.services.running import LOCAL, running


@pytest.fixture
def generation() -> OneGroup:
    return OneGroup()


@pytest_asyncio.fixture
async def groups(generation: OneGroup) -> AsyncIterator[GrpcGroups]:
    register: Any = partial(add_GenerationServiceServicer_to_server, cast(Any, generation))
    server = Server(
        RuntimeSettings(**LOCAL),
        service="perfusion.v1.GenerationService",
        register=register,
        dependencies=[],
        registry=CollectorRegistry(),
    )
    async with running(server) as channel:
        await server.poll_health()
        yield GrpcGroups(channel, timeout_s=5)


async def test_a_group_is_its_owner_release_and_pictures_as_shown(groups: GrpcGroups) -> None:
    assert await groups.get(GROUP_ID) == ShownGroup(GROUP_ID, OWNER, RELEASE, tuple(IMAGE_IDS))
    await groups.check()


async def test_an_unknown_group_is_none(groups: GrpcGroups) -> None:
    assert await groups.get(GROUP_ID[:-1] + "b") is None


async def test_a_service_that_does_not_answer_is_unavailable(groups: GrpcGroups, generation: OneGroup) -> None:
    generation.down = True
    with pytest.raises(Unavailable, match="generation service"):
        await groups.get(GROUP_ID)
