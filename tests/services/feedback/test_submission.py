"""The order of the steps: stored before it is announced, announced before OK, and never stored twice."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from perfusion.v1.events_pb2 import FeedbackGiven
from prometheus_client import CollectorRegistry

from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.feedback.picks import Feedback, Pick, ShownGroup
from services.feedback.ports import Groups
from services.feedback.submission import Submissions
from services.runtime.database import Database
from services.runtime.errors import NotFound, PermissionDenied, Unavailable
from services.runtime.events import Event
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.relay import Relay, RelayMetrics
from services.runtime.settings import KafkaSettings
from tests.services.feedback.fakes import FakeKafka
from tests.services.running import database_threads_ended

PICK = Pick("r", "g", "u", ("b",))
FEEDBACK = Feedback("e", "r", "g", "u", 3, ("b",), ("a",), 1_767_312_000_000_000, sequence=1)


class Shown(Groups):
    """Knows the group "g"."""

    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        return {"g": ShownGroup("g", "u", 3, ("a", "b"))} if "g" in group_ids else {}

    async def check(self) -> None:
        pass


class Watching(FakeKafka):
    """Notes whether the pick was stored when its event came."""

    def __init__(self) -> None:
        super().__init__()
        self.records: SqlRecords | None = None
        self.found: list[Feedback | None] = []

    async def publish(self, event: Event) -> None:
        assert self.records is not None
        self.found += await self.records.find(["r"])
        await super().publish(event)


@pytest.fixture
def kafka() -> Watching:
    return Watching()


@pytest_asyncio.fixture
async def submissions(tmp_path: Path, kafka: Watching) -> AsyncIterator[Submissions]:
    database, settings = Database(f"sqlite:///{tmp_path}/feedback.sqlite", SCHEMA, timeout_s=5), KafkaSettings()

    def clock() -> int:
        return FEEDBACK.create_time_us

    outbox = Outbox(database, OUTBOX, clock, Watch(settings.outbox_lease_s))
    kafka.records = SqlRecords(database, outbox)
    relay = Relay(
        outbox, kafka, {FeedbackGiven.DESCRIPTOR.full_name: "topic"}, RelayMetrics(CollectorRegistry()), clock, settings
    )
    yield Submissions(Shown(), kafka.records, relay, lambda: "e", clock)
    await database.close()
    await database_threads_ended()


async def test_a_pick_is_stored_then_announced_then_readable(submissions: Submissions, kafka: Watching) -> None:
    assert await submissions.submit(PICK) == FEEDBACK
    assert kafka.found == [FEEDBACK]
    assert await submissions.submit(PICK) == FEEDBACK
    assert len(kafka.taken) == 1
    assert (await submissions.read("g", "u")).feedback == FEEDBACK


async def test_what_was_not_acknowledged_is_announced_again_and_not_stored_again(
    submissions: Submissions, kafka: Watching
) -> None:
    kafka.deaf = True
    with pytest.raises(Unavailable):
        await submissions.submit(PICK)
    with pytest.raises(NotFound):
        await submissions.read("g", "u")
    kafka.deaf = False
    assert await submissions.submit(PICK) == FEEDBACK
    assert kafka.taken[0] == kafka.taken[1] and kafka.taken[0].key == "u"


async def test_a_pick_that_is_not_believed_leaves_nothing(submissions: Submissions, kafka: Watching) -> None:
    with pytest.raises(NotFound):
        await submissions.submit(replace(PICK, group_id="h"))
    assert kafka.records is not None and await kafka.records.find(["r"]) == [None]


async def test_anothers_pick_is_not_read(submissions: Submissions) -> None:
    await submissions.submit(PICK)
    with pytest.raises(PermissionDenied):
        await submissions.read("g", "another")
