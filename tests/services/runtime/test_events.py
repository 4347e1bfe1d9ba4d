"""Events without a broker: no acknowledgement means an error in bounded time. With a broker: tests/integration."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import google_crc32c
import pytest
from kafka.record._crc32c import crc
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from perfusion.v1.events_pb2 import GroupGenerated

from contract.kafka_access import KafkaAccess
from services.runtime.deadlines import deadline_in
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.events import Event, KafkaEvents, headers_of

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
EVENT = Event(
    topic="perfusion.groups.v1",
    key="ada",
    event_id="7d9d5c3e-0000-4000-8000-000000000000",
    event_type="perfusion.v1.GroupGenerated",
    value=GroupGenerated(user_id="ada").SerializeToString(),
    traceparent=TRACE,
)
NOWHERE = KafkaAccess("127.0.0.1:1")
# kafka-python leaves the socket of a refused connection to the garbage collector, which is called here so that no other
# test is blamed for it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL, logger="kafka")  # captured records would keep the sockets in their tracebacks
    yield
    gc.collect()


def test_batches_carry_kafkas_checksum_and_no_python_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[bytes]()
    fast = google_crc32c.value
    monkeypatch.setattr(google_crc32c, "value", lambda data: seen.append(data) or fast(data))
    batch = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 2**14)
    batch.append(0, 1_000, b"ada", EVENT.value, [("content-type", b"application/protobuf")])
    record = bytes(batch.build())
    checked = DefaultRecordBatch.ATTRIBUTES_OFFSET
    assert seen == [record[checked:]] and crc(record[checked:]) == DefaultRecordBatch(record).crc


def test_the_headers_say_what_the_record_is() -> None:
    headers = {name: value.decode() for name, value in headers_of(EVENT)}
    assert headers["content-type"] == "application/protobuf"
    assert headers["event-id"] == EVENT.event_id
    assert headers["event-type"] == "perfusion.v1.GroupGenerated"
    assert headers["event-time"].endswith("+00:00")
    assert headers["traceparent"] == TRACE
    assert "traceparent" not in dict(headers_of(replace(EVENT, traceparent=None)))


async def test_without_a_broker_it_gives_up_in_time() -> None:
    events = KafkaEvents(NOWHERE, (EVENT.topic,), timeout_s=0.5)
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="kafka"):
        await events.publish(EVENT)
    assert time.monotonic() - begin < 3
    with deadline_in(0.2), pytest.raises((DeadlineExceeded, Unavailable)):
        await events.publish(EVENT)
    with pytest.raises(Unavailable, match="kafka"):
        await events.check()
    await events.close()


async def test_a_long_outage_piles_up_nothing() -> None:
    events = KafkaEvents(NOWHERE, (EVENT.topic,), timeout_s=0.1)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await events.check()
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await events.check()
        with pytest.raises(Unavailable):
            await events.publish(EVENT)
    assert threading.active_count() <= before + 4  # the senders, made once
    await events.close()


async def test_an_acknowledged_event_proves_a_broker_that_has_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    events, looking, answer = KafkaEvents(NOWHERE, ("groups",), timeout_s=5), threading.Event(), threading.Event()

    def look() -> None:
        looking.set()
        answer.wait(20)
        raise Unavailable("kafka")

    monkeypatch.setattr(events, "_describe_topics", look)
    monkeypatch.setattr(events, "_send", lambda sending: sending.end(0, None))
    await events.publish(EVENT)
    answer.set()
    with pytest.raises(Unavailable):  # what was acknowledged before says nothing
        await events.check()
    answer.clear()
    looking.clear()
    checking = asyncio.create_task(events.check())
    await asyncio.to_thread(looking.wait, 20)
    assert not checking.done()
    await events.publish(EVENT)
    async with asyncio.timeout(20):
        await checking
    answer.set()
    with pytest.raises(Unavailable):  # and the next one looks for itself
        await events.check()
    await events.close()
