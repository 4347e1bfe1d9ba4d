"""The feedback service as its tests have it: real gRPC and SQLite, a generation service that knows one group, Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import grpc
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest, SubmitFeedbackResponse
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.feedback.__main__ import build
from services.feedback.adapters.groups import GrpcGroups
from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.feedback.settings import Settings
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.health import methods_of
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.server import Server
from services.runtime.settings import RuntimeSettings
from tests.services.feedback.fakes import GROUP_ID, IMAGE_IDS, OWNER, FakeKafka, OneGroup
from tests.services.running import LOCAL, database_threads_ended, running


@dataclass
class Desk:
    """The running service, its client and its surroundings."""

    generation: OneGroup
    kafka: FakeKafka
    generation_server: Server
    server: Server
    channel: grpc.aio.Channel
    stub: Any
    database_url: str

    async def submit(self, timeout: float | None = None, **changes: Any) -> SubmitFeedbackResponse:
        answer: SubmitFeedbackResponse = await self.stub.SubmitFeedback(pick(**changes), timeout=timeout)
        return answer

    async def is_recorded(self, request_id: str) -> bool:
        database = Database(self.database_url, SCHEMA, timeout_s=5)
        outbox = Outbox(database, OUTBOX, now_us, Watch(10.0))
        [recorded] = await SqlRecords(database, outbox).find([request_id])
        await database.close()
        return recorded is not None


def pick(**changes: Any) -> SubmitFeedbackRequest:
    """A good pick, with the changes a test is about."""
    good = {"request_id": str(uuid4()), "group_id": GROUP_ID, "user_id": OWNER, "selected_image_ids": [IMAGE_IDS[1]]}
    return SubmitFeedbackRequest(**good | changes)


@asynccontextmanager
async def opened(folder: Path, **changes: Any) -> AsyncIterator[Desk]:
    """A desk whose files lie in the folder, with the settings that a test is about."""
    generation, kafka = OneGroup(), FakeKafka()
    register: Any = partial(add_GenerationServiceServicer_to_server, cast(Any, generation))
    generation_server = Server(
        RuntimeSettings(**LOCAL),
        service="perfusion.v1.GenerationService",
        register=register,
        needs=dict.fromkeys(methods_of("perfusion.v1.GenerationService"), ()),
        registry=CollectorRegistry(),
    )
    database_url = f"sqlite:///{folder}/feedback.sqlite"
    async with running(generation_server) as generation_channel:
        groups = GrpcGroups(generation_channel, timeout_s=5)
        settings = Settings(**{"database_url": database_url, "outbox_interval_s": 3600.0, **LOCAL, **changes})
        server = build(settings, groups, kafka)
        async with running(server) as channel:
            yield Desk(
                generation, kafka, generation_server, server, channel, FeedbackServiceStub(channel), database_url
            )
    await database_threads_ended()
