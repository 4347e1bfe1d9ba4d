"""Publishing events to Kafka: returns when the brokers have acknowledged, or raises Unavailable in bounded time.

Services depend on `Events`; `KafkaEvents` implements it. It knows kafka-python, and when an event counts as published;
contract/topics.py has the envelope. It does not know the events' meaning, nor what is still to be published: relay.py.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import google_crc32c
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)
from kafka.net.compat import KafkaNetClient
from kafka.record import default_records
from opentelemetry.trace import Span, SpanKind

from contract import topics, tracing
from contract.kafka_access import KafkaAccess
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable

DELIVERY = {  # the producer's settings that decide what is sent together, in which order, and when it counts as taken
    "acks": "all",
    "enable_idempotence": True,  # the broker takes a batch only after all that were sent to its partition before it
    "batch_size": 2**17,  # bytes of one partition in a request; the library's own 16 KiB are twenty picks
    "max_request_size": 32 * 2**20,  # what an event may have, the broker and the topic decide
    "allow_auto_create_topics": False,
}
# kafka-python's own checksum is plain Python: 19 ms for a batch of 128 KiB, against 10 µs
default_records.calc_crc32c = lambda data: google_crc32c.value(bytes(data))
_CONTENT_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)


@dataclass(frozen=True)
class Event:
    """One record to publish. Sent again, an event has the same `event_id`, so that consumers can drop repeats."""

    topic: str
    key: str
    event_id: str
    event_type: str  # full name of the message
    value: bytes  # the message, serialized
    traceparent: str | None  # of the call that the event is about


class Refused(Exception):
    """Kafka never takes this event, whose size or form its settings forbid; it takes others."""


def _span_of(event: Event) -> Span | None:
    """Without the key, which is a merchant."""
    if event.traceparent is None:
        return None
    told = {
        "messaging.system": "kafka",
        "messaging.destination.name": event.topic,
        "messaging.operation.type": "send",
        "messaging.message.id": event.event_id,
    }
    return tracing.begun(f"publish {event.topic}", event.traceparent, SpanKind.PRODUCER, told)


def _end(spans: Sequence[Span | None], outcomes: Sequence[BaseException | None]) -> None:
    for span, error in zip(spans, outcomes, strict=True):
        if span is not None:
            if error is not None:
                tracing.failed(span, error)
            span.end()


def headers_of(event: Event) -> list[tuple[str, bytes]]:
    """The event's envelope, sent now."""
    return topics.headers(event.event_id, event.event_type, datetime.now(UTC), event.traceparent)


class Events(ABC):
    """Where events go."""

    @abstractmethod
    async def publish(self, event: Event) -> None:
        """Returns once the event is acknowledged.

        Raises:
            Unavailable, DeadlineExceeded: it is not, in bounded time.
            Refused: it never will be.
        """

    async def publish_all(self, events: Sequence[Event]) -> Sequence[Exception | None]:
        """What `publish` would raise for each; an event whose key had a failure before it is not sent, or fails too.

        Each has a span in the trace of its call, from which its consumers go on; an event of no call has none.
        """
        spans = [_span_of(event) for event in events]
        sent = [
            replace(event, traceparent=tracing.traceparent(span)) if span else event
            for event, span in zip(events, spans, strict=True)
        ]
        try:
            outcomes = await self.send_all(sent)
        except BaseException as error:
            _end(spans, [error] * len(events))
            raise
        _end(spans, outcomes)
        return outcomes

    async def send_all(self, events: Sequence[Event]) -> Sequence[Exception | None]:
        """As `publish_all`, which calls it."""
        by_key: dict[str, list[int]] = {}
        for i, event in enumerate(events):
            by_key.setdefault(event.key, []).append(i)
        ended: list[Exception | None] = [None] * len(events)

        async def publish_in_order(places: Sequence[int]) -> None:
            failure: Exception | None = None
            for i in places:
                try:
                    if failure is None:
                        await self.publish(events[i])
                except Refused as error:
                    ended[i] = error
                    continue
                except Exception as error:
                    failure = error
                ended[i] = failure

        await asyncio.gather(*map(publish_in_order, by_key.values()))
        return ended

    @abstractmethod
    async def check(self) -> None:
        """Returns when every topic this service publishes to can be reached; raises saying what is wrong."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections."""


class KafkaEvents(Events):
    """Kafka through kafka-python, whose threads and futures are bridged to asyncio.

    The producer is idempotent with acks=all. It is made on first use, so Kafka may start later than the service, and
    made anew after a failure, because a producer with lost batches may refuse to go on.
    """

    def __init__(self, kafka: KafkaAccess, topics: tuple[str, ...], *, timeout_s: float) -> None:
        self._kafka = kafka
        self._topics = topics
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._admin: Any = None
        self._lock = threading.Lock()
        self._senders = ThreadPoolExecutor(4, thread_name_prefix="kafka-send")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="kafka-check")
        self._acknowledged = asyncio.Event()  # since the check under way began
        self._failing = False  # by the last check

    async def publish(self, event: Event) -> None:
        [error] = await self.publish_all([event])
        if error is not None:
            raise error

    async def send_all(self, events: Sequence[Event]) -> Sequence[Exception | None]:
        limit_s = remaining_s(self._timeout_s)
        sending = _Sending(events)
        late: Exception = Unavailable("kafka")
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.get_running_loop().run_in_executor(self._senders, self._send, sending)
                await sending.ended
        except TimeoutError:
            if limit_s < self._timeout_s:  # the caller's deadline was short: the producer may be sound
                late = DeadlineExceeded()
            else:
                self._discard(sending.producer)
        except KafkaError as error:  # there is no producer
            late.__cause__ = error
        finally:
            sending.ended.cancel()  # a thread that still waits for the lock need not send any more
        if any(isinstance(error, KafkaError) for error in sending.errors):
            self._discard(sending.producer)
        ended = list(zip(sending.has_ended, sending.errors, strict=True))
        if (True, None) in ended:
            self._acknowledged.set()
        return [_translated(error) if has_ended else late for has_ended, error in ended]

    def _send(self, sending: "_Sending") -> None:
        """Runs in a thread: making a producer and fetching metadata block."""
        if sending.ended.done():
            return
        producer = sending.producer = self._connected_producer()
        failed: dict[str, Exception] = {}  # by key
        for i, event in enumerate(sending.events):
            if sending.ended.done():
                return
            if event.key in failed:
                sending.end(i, failed[event.key])
                continue
            try:
                future = producer.send(
                    event.topic, value=event.value, key=event.key.encode(), headers=headers_of(event)
                )
            except _CONTENT_REFUSED as error:
                sending.end(i, error)
            except KafkaError as error:  # it waited for metadata, or is closed: no other would fare better
                for rest in range(i, len(sending.events)):
                    sending.end(rest, error)
                return
            except Exception as error:
                failed[event.key] = error
                sending.end(i, error)
            else:
                future.add_callback(lambda _, i=i: sending.end(i, None))
                future.add_errback(lambda error, i=i: self._fail(producer, sending, i, error))

    def _fail(self, producer: Any, sending: "_Sending", i: int, error: Exception) -> None:
        """Runs in the producer's own thread: so it sends nothing more, and no event overtakes the one that failed."""
        if not isinstance(error, _CONTENT_REFUSED):
            producer._sender.force_close()
        sending.end(i, error)

    def _connected_producer(self) -> Any:
        with self._lock:
            if self._producer is None:
                limit_ms = round(self._timeout_s * 1000)
                self._producer = connected(
                    KafkaProducer,
                    **self._kafka.config,
                    **DELIVERY,
                    bootstrap_timeout_ms=limit_ms,
                    max_block_ms=limit_ms,
                    request_timeout_ms=max(limit_ms // 2, 1),
                    delivery_timeout_ms=limit_ms,
                    reconnect_backoff_max_ms=1000,
                )
            return self._producer

    def _discard(self, producer: Any) -> None:
        """Lets go of a producer that failed; one that was made since belongs to a later call."""
        if producer is None:
            return
        if self._producer is producer:
            self._producer = None
        self._senders.submit(_close_at_once, producer)

    async def check(self) -> None:
        """After a check that failed, an event that is acknowledged is proof, too: calls may find the broker first."""
        self._acknowledged.clear()
        describing = asyncio.get_running_loop().run_in_executor(self._checker, self._describe_topics)
        describing.add_done_callback(_seen)  # it may not be awaited
        if self._failing and await self._is_acknowledged_before(describing):
            self._failing = False
            return
        self._failing = True
        await describing
        self._failing = False

    async def _is_acknowledged_before(self, describing: "asyncio.Future[None]") -> bool:
        proof: asyncio.Future[Any] = asyncio.ensure_future(self._acknowledged.wait())
        try:
            await asyncio.wait((describing, proof), return_when=asyncio.FIRST_COMPLETED)
        finally:
            proof.cancel()
        return not describing.done()

    def _describe_topics(self) -> None:
        """Runs in a thread. Asks the brokers, since the producer's own metadata outlives them."""
        try:
            if self._admin is None:
                self._admin = connected(
                    KafkaAdminClient,
                    **self._kafka.config,
                    request_timeout_ms=2000,
                    bootstrap_timeout_ms=2000,
                    reconnect_backoff_max_ms=1000,
                )
            topics = self._admin.describe_topics(list(self._topics))
            known = {topic["name"] for topic in topics if not topic["error_code"]}
            leaderless = {t["name"] for t in topics if any(p["leader_id"] < 0 for p in t["partitions"])}
        except Exception as error:
            admin, self._admin = self._admin, None
            if admin is not None:
                admin.close()
            raise Unavailable("kafka", f"does not answer: {self._kafka.doubt}") from error
        if forbidden := without_right("WRITE", topics):
            raise not_allowed("write", forbidden)
        if missing := set(self._topics) - known:
            raise Unavailable("kafka", f"has no topic {', '.join(sorted(missing))}")
        if leaderless:
            raise Unavailable("kafka", f"has partitions without leader of {', '.join(sorted(leaderless))}")

    async def close(self) -> None:
        """Waits for nothing: every publish has already waited for its own acknowledgement."""
        self._discard(self._producer)
        if self._admin is not None:
            self._checker.submit(self._admin.close)
        self._senders.shutdown(wait=True)
        self._checker.shutdown(wait=True)


def _seen(future: "asyncio.Future[None]") -> None:
    """So that its exception is not reported as one that nobody saw."""
    if not future.cancelled():
        future.exception()


class _Sending:
    """Events on their way, and how it ended for each. Made on the event loop; threads note the ends."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.has_ended = [False] * len(events)
        self.errors: list[Exception | None] = [None] * len(events)
        self.producer: Any = None  # that took the events, once one did
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()  # when all have
        self._left = len(events)
        self._lock = threading.Lock()

    def end(self, i: int, error: Exception | None) -> None:
        """Event i is acknowledged, or failed."""
        with self._lock:
            if self.has_ended[i]:
                return
            self.errors[i] = error
            self.has_ended[i] = True
            self._left -= 1
            if self._left:
                return
        self._loop.call_soon_threadsafe(self._all_ended)

    def _all_ended(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _translated(error: Exception | None) -> Exception | None:
    """A failure to send as the callers of `Events` know it."""
    if not isinstance(error, KafkaError):
        return error
    translated: Exception = Unavailable("kafka", "did not acknowledge the event")
    if isinstance(error, AuthorizationError) or ClusterAuthorizationFailedError.__name__ in str(error):  # of a producer
        translated = not_allowed("write", ["the event's topic"])
    if isinstance(error, _CONTENT_REFUSED):
        translated = Refused(str(error))
    translated.__cause__ = error
    return translated


def without_right(operation: str, described: Sequence[Mapping[str, Any]]) -> list[str]:
    """The topics, as the admin client describes them, on which this process may not do it: "READ" or "WRITE"."""
    return sorted(
        topic["name"]
        for topic in described
        if topic["error_code"] == TopicAuthorizationFailedError.errno
        or (not topic["error_code"] and operation not in (topic.get("authorized_operations") or [operation]))
    )


def not_allowed(what: str, names: Sequence[str]) -> Unavailable:
    """Kafka knows this process, and refuses it."""
    remedy = "the name in its certificate needs the right (contract/topics.py; in Kubernetes the KafkaUser)"
    return Unavailable("kafka", f"does not let this service {what} {', '.join(names)}: {remedy}")


def _close_at_once(producer: Any) -> None:
    """Closing flushes first, and with a batch still owed that raises instead of closing."""
    try:
        producer.close(timeout=0)
    except KafkaError:
        producer._sender.force_close()


def connected(kind: Any, **config: Any) -> Any:
    """A Kafka client, connected. One that cannot connect would leave its thread and sockets behind."""
    made: list[Any] = []

    def network(**network_config: Any) -> Any:
        made.append(KafkaNetClient(**network_config))
        return made[-1]

    try:
        return kind(kafka_client=network, **config)
    except Exception:
        for client in made:
            client.close()
        raise
