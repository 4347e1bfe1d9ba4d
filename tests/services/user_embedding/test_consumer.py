"""Records become histories, whatever Kafka and the database do meanwhile, and favours follow them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub
from prometheus_client import CollectorRegistry

from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.records import Record
from services.runtime.workers import Worker
from services.user_embedding import consumer as module
from services.user_embedding.__main__ import build
from services.user_embedding.adapters.histories import SqlHistories
from services.user_embedding.adapters.tables import SCHEMA
from services.user_embedding.consumer import Consumer
from services.user_embedding.metrics import HistoryMetrics
from services.user_embedding.settings import Settings
from tests.services.fake_models import FakeModels
from tests.services.fake_records import FakeRecords
from tests.services.market import VOCABULARY, population_of, write_release
from tests.services.running import LOCAL, database_threads_ended, running
from tests.services.user_embedding.events import OF_GROUPS, OF_PICKS, group_event, pick_event
from tests.spans import linked, recorded, trace_of

SHOWN = {"a": ["sequins"], "b": ["hand-sewn ruffles"]}
PATIENCE_S = 60  # of the test


@pytest.fixture
def records() -> FakeRecords:
    return FakeRecords(OF_GROUPS, OF_PICKS)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.02)


@asynccontextmanager
async def at_work(work: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(work())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Reading:
    """A consumer on a database of its own."""

    def __init__(self, folder: Path, records: FakeRecords) -> None:
        self.database = Database(f"sqlite:///{folder}/users.sqlite", SCHEMA, timeout_s=5)
        self.histories, self.registry = SqlHistories(self.database), CollectorRegistry()
        self.consumer = Consumer(records, self.histories, HistoryMetrics(self.registry), now_us)

    async def until(self, sequences: list[int], user_id: str = "u") -> None:
        """Waits until these picks are the history."""
        async with asyncio.timeout(PATIENCE_S):
            while [g.sequence for g in (await self.histories.of([user_id])).get(user_id, ())] != sequences:
                await asyncio.sleep(0.01)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def close(self) -> None:
        await self.database.close()
        await database_threads_ended()


async def test_it_goes_on_where_the_database_says(tmp_path: Path, records: FakeRecords) -> None:
    records.logs[OF_PICKS].append(pick_event("g1", ["a"], 1))  # before its group
    first = Reading(tmp_path, records)
    async with at_work(first.consumer.run):
        records.logs[OF_GROUPS].append(group_event("g1", SHOWN))
        await first.until([1])
    records.logs[OF_GROUPS].append(group_event("g2", SHOWN))
    records.logs[OF_PICKS].append(pick_event("g2", ["b"], 2))
    second = Reading(tmp_path, records)
    async with at_work(second.consumer.run):
        await second.until([1, 2])
    kept = [second.value("perfusion_history_records_total", topic=p.topic, outcome="kept") for p in records.logs]
    assert kept == [1, 1]  # it read nothing again
    await first.close()
    await second.close()


async def test_two_replicas_keep_everything_once(tmp_path: Path, records: FakeRecords) -> None:
    other = FakeRecords()
    other.logs, other.begins = records.logs, records.begins
    pair = Reading(tmp_path, records), Reading(tmp_path, other)
    async with at_work(pair[0].consumer.run), at_work(pair[1].consumer.run):
        for at in range(1, 9):
            records.logs[OF_GROUPS].append(group_event(f"g{at}", SHOWN))
            records.logs[OF_PICKS].append(pick_event(f"g{at}", ["a"], at))
            await asyncio.sleep(0.02)
        await pair[0].until(list(range(1, 9)))
    assert await pair[1].histories.offsets() == {OF_GROUPS: 8, OF_PICKS: 8}
    for reading in pair:
        await reading.close()


async def test_poison_is_passed_and_counted(tmp_path: Path, records: FakeRecords) -> None:
    records.logs[OF_GROUPS] += [replace(group_event("g0", SHOWN), value=b"\xff"), group_event("g1", SHOWN)]
    records.logs[OF_PICKS].append(pick_event("g1", ["a"], 1))
    reading = Reading(tmp_path, records)
    async with at_work(reading.consumer.run):
        await reading.until([1])
    assert reading.value("perfusion_history_records_total", topic=OF_GROUPS.topic, outcome="poison") == 1
    await reading.close()


async def test_while_kafka_is_away_it_waits_and_says_so(tmp_path: Path, records: FakeRecords) -> None:
    reading = Reading(tmp_path, records)
    records.answers = False
    async with at_work(reading.consumer.run):
        await asyncio.sleep(0.2)
        assert reading.value("perfusion_history_reading") == 0
        records.answers = True
        records.logs[OF_GROUPS].append(group_event("g1", SHOWN))
        records.logs[OF_PICKS].append(pick_event("g1", ["a"], 1))
        await reading.until([1])
        async with asyncio.timeout(PATIENCE_S):
            while reading.value("perfusion_history_reading") != 1:
                await asyncio.sleep(0.01)
    await reading.close()


@pytest.mark.parametrize(("stored", "begin", "lost"), [(1, 3, 2), (9, 2, None)], ids=["ended unread", "kafka lost"])
async def test_what_kafka_no_longer_has_is_counted_and_passed(
    tmp_path: Path, records: FakeRecords, stored: int, begin: int, lost: float | None
) -> None:
    reading = Reading(tmp_path, records)
    assert await reading.histories.apply([], {OF_GROUPS: 0, OF_PICKS: 0}, {OF_GROUPS: 0, OF_PICKS: stored})
    records.logs[OF_GROUPS].append(group_event("g1", SHOWN))
    records.logs[OF_PICKS] += [pick_event("g1", ["a"], at) for at in range(1, 6)]
    records.begins[OF_PICKS] = begin
    async with at_work(reading.consumer.run):
        await reading.until([5])
    assert (await reading.histories.offsets())[OF_PICKS] == 5
    assert reading.value("perfusion_history_lost_records_total", topic=OF_PICKS.topic) == lost
    await reading.close()


async def embedding(stub: Any, release: int = 1) -> Any:
    return (await stub.GetUserEmbedding(pb.GetUserEmbeddingRequest(user_id="u", release=release))).embedding


async def test_a_pick_moves_the_favours_and_the_answer_says_so(tmp_path: Path, records: FakeRecords) -> None:
    write_release(tmp_path, 1, population=population_of())
    write_release(tmp_path, 2, current=False)  # of before histories
    settings = Settings(database_url=f"sqlite:///{tmp_path}/users.sqlite", model_repository=tmp_path, **LOCAL)
    async with running(build(settings, FakeModels([1, 2]), records)) as channel:
        stub = UserEmbeddingServiceStub(channel)
        await stub.PutUserProfile(pb.PutUserProfileRequest(user_id="u"))
        before, old = await embedding(stub), await embedding(stub, 2)
        records.logs[OF_GROUPS].append(group_event("g1", SHOWN))
        records.logs[OF_PICKS].append(pick_event("g1", ["a"], 41))
        async with asyncio.timeout(PATIENCE_S):
            while (after := await embedding(stub)).history.groups == 0:
                await asyncio.sleep(0.02)
        unmoved = await embedding(stub, 2)
        batch = pb.BatchGetUserEmbeddingsRequest(user_ids=["u", "u"])
        both = (await stub.BatchGetUserEmbeddings(batch)).embeddings
    assert (before.history.sequence, before.history.groups) == (0, 0)
    assert (after.history.sequence, after.history.groups) == (41, 1)
    assert unmoved == old and unmoved.history.groups == 0
    assert list(both) == [after, after]
    liked, other = (VOCABULARY.places[phrase] for phrase in ("sequins", "hand-sewn ruffles"))
    assert after.favours[liked] > after.favours[other]
    assert list(after.generator_user) == list(before.generator_user)


async def test_without_picks_the_answer_is_that_of_a_release_without_histories(
    tmp_path: Path, records: FakeRecords
) -> None:
    found = []
    for folder, population in ((tmp_path / "with", population_of(mean=3.0)), (tmp_path / "without", None)):
        write_release(folder, 1, population=population)
        settings = Settings(database_url=f"sqlite:///{folder}/users.sqlite", model_repository=folder, **LOCAL)
        async with running(build(settings, FakeModels(), records)) as channel:
            stub = UserEmbeddingServiceStub(channel)
            await stub.PutUserProfile(pb.PutUserProfileRequest(user_id="u"))
            found.append((await embedding(stub)).SerializeToString())
    assert found[0] == found[1]


async def test_a_batch_is_kept_in_the_traces_of_its_calls(tmp_path: Path, records: FakeRecords) -> None:
    def of_trace(number: int, record: Record) -> Record:
        return replace(
            record, headers={**record.headers, "traceparent": f"00-{number:032x}-00f067aa0ba902b7-01".encode()}
        )

    records.logs[OF_GROUPS].append(of_trace(1, group_event("g1", SHOWN, "ada-of-the-old-mill")))
    records.logs[OF_PICKS].append(of_trace(2, pick_event("g1", ["a"], 1, "ada-of-the-old-mill")))
    reading = Reading(tmp_path, records)
    with recorded() as spans:
        async with at_work(reading.consumer.run):
            await reading.until([1], "ada-of-the-old-mill")
        kept = spans.one("keep picks")
    assert kept.kind is SpanKind.CONSUMER and (trace_of(kept), linked(kept)) == (f"{1:032x}", {f"{2:032x}"})
    assert kept.attributes is not None and kept.attributes["messaging.batch.message_count"] == 2
    assert "ada" not in kept.to_json()
    await reading.close()
