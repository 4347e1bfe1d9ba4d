"""The generation service's real server over SQLite and a folder of pictures, among the fakes of fakes.py."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.group_pb2 import Group

from services.generation.__main__ import build
from services.generation.settings import Settings
from services.runtime.server import Server
from tests.services.generation.fakes import KnownUsers, LastIsBest, PaintingModels, RecordedEvents
from tests.services.market import write_release
from tests.services.running import LOCAL, running


@dataclass
class Studio:
    """A running service, its client and its surroundings."""

    settings: Settings
    models: PaintingModels = field(default_factory=PaintingModels)
    events: RecordedEvents = field(default_factory=RecordedEvents)
    users: KnownUsers = field(default_factory=KnownUsers)
    ranker: LastIsBest = field(default_factory=LastIsBest)
    server: Server = field(init=False)
    stub: Any = None

    def __post_init__(self) -> None:
        self.server = build(self.settings, self.models, self.users, self.ranker, self.events)

    def connect(self, channel: grpc.aio.Channel) -> "Studio":
        self.stub = GenerationServiceStub(channel)
        return self

    async def stream(self, request: pb.GenerateRequest, **call: Any) -> list[pb.GenerateResponse]:
        return [response async for response in self.stub.Generate(request, **call)]

    async def group(self, request: pb.GenerateRequest) -> Group:
        """The group that ends a stream in the right order."""
        events = await self.stream(request)
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds == ["accepted", *["progress"] * (len(events) - 2), "group"]
        assert events[0].accepted.group_id == events[-1].group.group_id
        return events[-1].group

    def counted(self, name: str, **labels: str) -> float:
        return self.server._registry.get_sample_value(name, labels) or 0.0

    def ended(self, outcome: str) -> float:
        """How many rounds by the live release ended so."""
        return self.counted("perfusion_groups_total", outcome=outcome, release="1", arm="live")

    async def groups_of(self, user_id: str) -> list[Group]:
        return list((await self.stub.ListGroups(pb.ListGroupsRequest(user_id=user_id))).groups)

    @property
    def kept_pictures(self) -> int:
        return len(list(Path(self.settings.object_store_url.removeprefix("file://")).rglob("*.png")))


def request(**changes: Any) -> pb.GenerateRequest:
    """A valid, quick request, with the changes a test is about."""
    fields = {"request_id": str(uuid4()), "user_id": "ada", "prompt": "red,dress", "num_candidates": 3, "num_steps": 4}
    return pb.GenerateRequest(**(fields | {"seed": 7} | changes))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/generation.sqlite"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    write_release(tmp_path, 1)
    return Settings(
        database_url=database_url,
        object_store_url=f"file://{tmp_path}/objects",
        model_repository=tmp_path,
        outbox_interval_s=3600.0,  # what is owed waits for a repeat, except in the tests of the relay
        **LOCAL,
    )


@pytest_asyncio.fixture
async def studio(settings: Settings) -> AsyncIterator[Studio]:
    studio = Studio(settings)
    async with running(studio.server) as channel:
        yield studio.connect(channel)
