"""What is owed is published, in order, once for each id, whoever died and whatever clocks say: on both databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from opentelemetry.trace import SpanKind, StatusCode
from perfusion.v1.events_pb2 import FeedbackGiven
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from contract import tracing
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.runtime.database import Database
from services.runtime.deadlines import deadline_in
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.events import Event, Events, Refused
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.relay import Relay, RelayMetrics
from services.runtime.settings import KafkaSettings
from tests.services.running import database_threads_ended, token_of_a_killed_process
from tests.spans import SAMPLED, TRACE, is_child, recorded, trace_of

HOUR_US = 3_600_000_000
TOPICS = {FeedbackGiven.DESCRIPTOR.full_name: "topic"}
SETTINGS = KafkaSettings(outbox_interval_s=0.02, outbox_backoff_s=0.05, kafka_timeout_s=20.0)


class Broker(Events):
    """Kafka in memory. It takes nothing while `down`, nor what `fails` names; it may keep a sender waiting."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.down = False
        self.fails: set[str] = set()  # keys and event ids
        self.refused: set[str] = set()
        self.poisons: set[str] = set()  # keys
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def publish(self, event: Event) -> None:
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if self.down or self.fails & {event.key, event.event_id}:
            raise Unavailable("kafka")
        if event.key in self.poisons:
            raise ValueError("a fault of ours")
        if event.event_id in self.refused:
            raise Refused("too large")
        self.taken.append(event)

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def ids(self, key: str) -> list[str]:
        return [event.event_id for event in self.taken if event.key == key]


@dataclass
class Time:
    """A replica's two clocks; tests move them."""

    wall_us: int = 1_767_323_045_000_000
    elapsed_s: float = 0.0


@dataclass
class Replica:
    """One process: its own connections, watch, relay and clocks, on a database that it shares."""

    database: Database
    broker: Broker
    settings: KafkaSettings = SETTINGS
    time: Time = field(default_factory=Time)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        watch = Watch(self.settings.outbox_lease_s, lambda: self.time.elapsed_s)
        self.outbox = Outbox(self.database, OUTBOX, lambda: self.time.wall_us, watch)
        self.relay = Relay(
            self.outbox, self.broker, TOPICS, RelayMetrics(self.registry), lambda: self.time.wall_us, self.settings
        )

    async def store(self, key: str) -> str:
        """Stores an event as a call does, and returns its id."""
        event_id = str(uuid4())
        async with self.database.transaction() as connection:
            sequence = await self.outbox.next_sequence(connection, key)
            await self.outbox.add(connection, key, sequence, event_id, FeedbackGiven(request_id=event_id))
        return event_id

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.relay.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"perfusion_outbox_{name}", labels)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest_asyncio.fixture
async def replica_of(url: str, broker: Broker) -> AsyncIterator[Callable[..., Replica]]:
    databases: list[Database] = []

    def made(**changes: Any) -> Replica:
        databases.append(Database(url, SCHEMA, timeout_s=20))
        return Replica(databases[-1], broker, **changes)

    yield made
    for database in databases:
        await database.close()
    await database_threads_ended()


@pytest.fixture
def replica(replica_of: Callable[..., Replica]) -> Replica:
    return replica_of()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_call_publishes_what_its_key_owes_before_its_own_event(replica: Replica, broker: Broker) -> None:
    ids = [await replica.store("ada") for _ in range(3)]
    other = await replica.store("bob")
    await replica.relay.deliver("ada", ids[2])
    assert broker.ids("ada") == ids
    assert broker.ids("bob") == []
    await replica.relay.deliver("ada", ids[1])  # a repeat publishes nothing more
    assert broker.ids("ada") == ids
    assert await replica.outbox.find([other]) == {other: ""}


async def test_the_relay_publishes_what_no_call_waits_for_with_its_trace_and_bytes(
    replica: Replica, broker: Broker
) -> None:
    came = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    with tracing.entry("a call", [came]):
        event_id = await replica.store("shop ☂")
    async with replica.running():
        await until(lambda: bool(broker.taken))
    [event] = broker.taken
    assert (event.topic, event.key, event.event_id) == ("topic", "shop ☂", event_id)
    assert FeedbackGiven.FromString(event.value).request_id == event_id
    assert event.event_type == "perfusion.v1.FeedbackGiven"
    assert event.traceparent == came


async def test_what_is_published_later_is_in_the_trace_of_the_call_that_stored_it(
    replica: Replica, broker: Broker
) -> None:
    broker.down = True
    with recorded() as spans:
        with tracing.entry("a call", [SAMPLED]), tracing.span("store"):
            event_id = await replica.store("ada")
        with pytest.raises(Unavailable):
            await replica.relay.deliver("ada", event_id)
        broker.down = False
        async with replica.running():
            await until(lambda: bool(broker.taken))
        failed, sent = spans.named("publish topic")
        stored = spans.one("store")
    assert is_child(failed, stored) and is_child(sent, stored) and trace_of(sent) == TRACE
    assert failed.status.status_code is StatusCode.ERROR and sent.status.status_code is StatusCode.UNSET
    assert sent.kind is SpanKind.PRODUCER and sent.attributes is not None and "ada" not in sent.to_json()
    assert sent.attributes["messaging.message.id"] == event_id
    [event] = broker.taken
    assert sent.context is not None and event.traceparent == f"00-{TRACE}-{sent.context.span_id:016x}-01"


async def test_after_an_outage_everything_comes_once_and_in_order(replica: Replica, broker: Broker) -> None:
    broker.down = True
    ids = [await replica.store("ada") for _ in range(5)]
    async with replica.running():
        with pytest.raises(Unavailable):
            await replica.relay.deliver("ada", ids[0])
        await until(lambda: replica.metric("pending") == 5)
        broker.down = False
        await until(lambda: len(broker.taken) == 5)
        await until(lambda: replica.metric("pending") == 0)
    assert broker.ids("ada") == ids
    assert replica.metric("published_total", by="relay") == 5


async def test_a_call_whose_event_is_out_hears_ok_though_a_later_one_fails(replica: Replica, broker: Broker) -> None:
    first, second = await replica.store("ada"), await replica.store("ada")
    broker.fails = {second}
    await replica.relay.deliver("ada", first)
    with pytest.raises(Unavailable):
        await replica.relay.deliver("ada", second)
    broker.fails = set()
    await replica.relay.deliver("ada", second)
    assert broker.ids("ada") == [first, second]


async def test_replicas_share_the_work_and_no_key_loses_its_order(
    replica_of: Callable[..., Replica], broker: Broker
) -> None:
    one, other = replica_of(), replica_of()
    stored: dict[str, list[str]] = {f"merchant {i}": [] for i in range(12)}
    for n in range(6):
        for key, ids in stored.items():
            ids.append(await (one, other)[n % 2].store(key))
    async with one.running(), other.running():
        await asyncio.gather(*(one.relay.deliver(key, ids[-1]) for key, ids in list(stored.items())[:4]))
        await until(lambda: len(broker.taken) >= 72)
    assert {key: broker.ids(key) for key in stored} == stored


async def test_a_call_waits_for_the_replica_that_has_its_key(
    replica_of: Callable[..., Replica], broker: Broker
) -> None:
    one, other = replica_of(), replica_of()
    first = await one.store("ada")
    broker.hold = asyncio.Event()
    publishing = asyncio.create_task(one.relay.deliver("ada", first))
    async with asyncio.timeout(20):
        await broker.asked.wait()
    second = await other.store("ada")
    waiting = asyncio.create_task(other.relay.deliver("ada", second))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done() and broker.taken == []
    broker.hold.set()
    async with asyncio.timeout(30):
        await asyncio.gather(publishing, waiting)
    assert broker.ids("ada") == [first, second]


@pytest.mark.parametrize("jump_us", [-5 * HOUR_US, 5 * HOUR_US], ids=["clock set back", "clock set forward"])
async def test_a_dead_holders_key_is_taken_over_after_a_lease_whatever_the_calendar_says(
    replica_of: Callable[..., Replica], broker: Broker, jump_us: int
) -> None:
    dead, survivor = replica_of(), replica_of(time=Time(wall_us=Time.wall_us + 7 * HOUR_US))
    ids = [await dead.store("ada")]
    await dead.outbox.claim(["ada"], "token of the dead")
    survivor.time.wall_us += jump_us
    ids.append(await survivor.store("ada"))
    async with survivor.running():
        other = await survivor.store("bob")
        await until(lambda: broker.ids("bob") == [other])  # other keys do not wait
        other = await survivor.store("bob")
        await until(lambda: len(broker.ids("bob")) == 2)
        assert broker.ids("ada") == []
        survivor.time.elapsed_s += SETTINGS.outbox_lease_s
        await until(lambda: len(broker.ids("ada")) == 2)
    assert broker.ids("ada") == ids


async def test_the_next_process_publishes_at_once_what_a_killed_one_had_claimed(
    replica_of: Callable[..., Replica], broker: Broker
) -> None:
    """No lease passes: nothing moves the replica's clock."""
    survivor = replica_of()
    ids = [await survivor.store("ada")]
    await survivor.outbox.claim(["ada"], await token_of_a_killed_process())
    ids.append(await survivor.store("ada"))
    await survivor.relay.deliver("ada", ids[1])
    assert broker.ids("ada") == ids


async def test_a_holder_that_was_only_slow_stops_after_it_was_taken_over(
    replica_of: Callable[..., Replica], broker: Broker
) -> None:
    slow, quick = replica_of(), replica_of()
    ids = [await slow.store("ada") for _ in range(3)]
    broker.hold = asyncio.Event()
    call = asyncio.create_task(slow.relay.deliver("ada", ids[0]))
    async with asyncio.timeout(20):
        await broker.asked.wait()
    assert await quick.outbox.claim(["ada"], "quick") == []
    quick.time.elapsed_s += SETTINGS.outbox_lease_s
    owed = await quick.outbox.claim(["ada"], "quick")
    assert [event.event_id for event in owed] == ids
    ids.append(await quick.store("ada"))
    later = asyncio.create_task(slow.relay.deliver("ada", ids[3]))
    broker.hold.set()
    await call
    await asyncio.wait({later}, timeout=0.3)
    assert broker.ids("ada") == ids[:3] and not later.done()  # what it had begun, and nothing after
    await quick.outbox.settle("quick", ids[:3], {}, ["ada"])
    await later
    assert broker.ids("ada") == ids


async def test_an_event_that_kafka_never_takes_keeps_nobody_waiting(replica: Replica, broker: Broker) -> None:
    bad, good, other = await replica.store("ada"), await replica.store("ada"), await replica.store("bob")
    broker.refused = {bad}
    async with replica.running():
        await until(lambda: len(broker.taken) == 2)
        await until(lambda: replica.metric("refused") == 1)
    assert (broker.ids("ada"), broker.ids("bob")) == ([good], [other])
    with pytest.raises(RuntimeError, match="too large"):
        await replica.relay.deliver("ada", bad)
    assert await replica.outbox.find([bad]) == {bad: "too large"}


async def test_a_fault_with_one_keys_events_keeps_no_other_waiting(
    replica: Replica, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.poisons = {"ada"}
    bad, good = await replica.store("ada"), await replica.store("bob")
    async with replica.running():
        await until(lambda: broker.ids("bob") == [good])
        with pytest.raises(ValueError, match="a fault of ours"):
            await replica.relay.deliver("ada", bad)
        later = await replica.store("bob")
        await until(lambda: broker.ids("bob") == [good, later])
    assert await replica.outbox.find([bad]) == {bad: ""}
    assert "could not publish the events of a merchant" in caplog.text


async def test_keys_that_fail_keep_no_other_from_its_turn(replica: Replica, broker: Broker) -> None:
    broker.fails = {f"a{i:02}" for i in range(40)}
    for key in sorted(broker.fails):
        await replica.store(key)
    good = [await replica.store(f"b{i:02}") for i in range(20)]
    async with replica.running():
        await until(lambda: len(broker.taken) == len(good))
    assert {event.event_id for event in broker.taken} == set(good)


async def test_a_call_that_ends_early_leaves_the_publication_to_go_on(replica: Replica, broker: Broker) -> None:
    event_id = await replica.store("ada")
    broker.hold = asyncio.Event()
    with deadline_in(0.1), pytest.raises(DeadlineExceeded):
        await replica.relay.deliver("ada", event_id)
    another = asyncio.create_task(replica.relay.deliver("ada", event_id))
    broker.hold.set()
    await another
    assert broker.ids("ada") == [event_id]


async def test_without_an_acknowledgement_a_call_ends_in_time(
    replica_of: Callable[..., Replica], broker: Broker
) -> None:
    replica = replica_of(settings=SETTINGS.model_copy(update={"kafka_timeout_s": 0.2}))
    broker.hold = asyncio.Event()
    event_id = await replica.store("ada")
    async with replica.running(), asyncio.timeout(20):
        with pytest.raises(Unavailable, match="kafka"):
            await replica.relay.deliver("ada", event_id)
    assert broker.taken == []


async def test_a_stop_gives_up_the_claims(replica_of: Callable[..., Replica], broker: Broker) -> None:
    stopped, other = replica_of(), replica_of()
    event_id = await stopped.store("ada")
    broker.hold = asyncio.Event()
    async with stopped.running(), asyncio.timeout(20):
        await broker.asked.wait()
    assert [event.event_id for event in await other.outbox.claim(["ada"], "other")] == [event_id]


async def test_places_rise_in_the_order_of_commits(replica: Replica) -> None:
    """A transaction that took the earlier place and commits later would be published after its successor."""
    async with replica.database.transaction() as connection:
        first = await replica.outbox.next_sequence(connection, "ada")
        later = asyncio.create_task(replica.store("ada"))
        await asyncio.wait({later}, timeout=0.3)
        assert not later.done()
        event_id = str(uuid4())
        await replica.outbox.add(connection, "ada", first, event_id, FeedbackGiven())
    owed = [event_id, await later]
    assert [event.event_id for event in await replica.outbox.claim(["ada"], "t")] == owed


async def test_what_is_rolled_back_owes_nothing(replica: Replica) -> None:
    async def store_and_fail() -> None:
        async with replica.database.transaction() as connection:
            sequence = await replica.outbox.next_sequence(connection, "ada")
            await replica.outbox.add(connection, "ada", sequence, str(uuid4()), FeedbackGiven())
            raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        await store_and_fail()
    assert (await replica.outbox.backlog()).owed == 0
    async with replica.database.transaction() as connection:
        assert (await connection.execute(select(OUTBOX.keys))).all() == []


async def test_the_age_of_what_is_owed_is_shown_and_never_negative(replica: Replica, broker: Broker) -> None:
    broker.down = True
    await replica.store("ada")
    replica.time.wall_us += 90_000_000
    async with replica.running():
        await until(lambda: replica.metric("oldest_seconds") == 90.0)
        replica.time.wall_us -= HOUR_US
        await until(lambda: replica.metric("oldest_seconds") == 0.0)
        broker.down = False
        await until(lambda: replica.metric("pending") == 0)


@pytest.mark.parametrize("step", ["claim", "settle"])
async def test_a_stop_while_claims_are_taken_or_given_up_gives_them_up(
    replica_of: Callable[..., Replica], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stopped, begun = replica_of(), asyncio.Event()
    await stopped.store("ada")
    work = getattr(stopped.outbox, step)

    async def slowly(*arguments: Any) -> Any:
        done = await work(*arguments) if step == "claim" else None
        begun.set()
        await asyncio.sleep(0.2)
        return done if step == "claim" else await work(*arguments)

    monkeypatch.setattr(stopped.outbox, step, slowly)
    async with stopped.running(), asyncio.timeout(20):
        await begun.wait()
    async with stopped.database.transaction() as connection:
        assert (await connection.execute(select(OUTBOX.keys.c.holder))).scalars().all() == [""]
