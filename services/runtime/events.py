"""Publishing events to Kafka: returns when the brokers have acknowledged, or raises Unavailable in bounded time.

Services depend on `Events`; `KafkaEvents` implements it. It knows kafka-python, and when an event counts as published;
contract/topics.py has the envelope. It does not know the events' meaning, nor what is still to be published: relay.py.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import InvalidRecordError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.net.compat import KafkaNetClient

from contract import topics
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable

_MOST_BYTES = 32 * 2**20  # of one request; what an event may have, the broker and the topic decide
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

    def __init__(self, bootstrap: str, topics: tuple[str, ...], *, timeout_s: float) -> None:
        self._bootstrap = bootstrap.split(",")
        self._topics = topics
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._admin: Any = None
        self._lock = threading.Lock()
        self._senders = ThreadPoolExecutor(4, thread_name_prefix="kafka-send")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="kafka-check")

    async def publish(self, event: Event) -> None:
        limit_s = remaining_s(self._timeout_s)
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        used: list[Any] = []  # the producer that took the event, once one did
        try:
            async with asyncio.timeout(limit_s):
                await loop.run_in_executor(self._senders, self._send, event, loop, acknowledged, used)
                await acknowledged
        except TimeoutError as error:
            if limit_s < self._timeout_s:  # the caller's deadline was short: the producer may be sound
                raise DeadlineExceeded from error
            self._discard(used)
            raise Unavailable("kafka") from error
        except _CONTENT_REFUSED as error:
            self._discard(used)
            raise Refused(str(error)) from error
        except KafkaError as error:
            self._discard(used)
            raise Unavailable("kafka", "did not acknowledge the event") from error
        finally:
            acknowledged.cancel()  # a thread that still waits for the lock need not send any more

    def _send(
        self,
        event: Event,
        loop: asyncio.AbstractEventLoop,
        acknowledged: "asyncio.Future[None]",
        used: list[Any],
    ) -> None:
        """Runs in a thread: making a producer and fetching metadata block."""
        if acknowledged.done():
            return

        def settle(error: Exception | None) -> None:
            if not acknowledged.done():
                acknowledged.set_exception(error) if error else acknowledged.set_result(None)

        producer = self._connected_producer()
        used.append(producer)
        if acknowledged.done():
            return
        future = producer.send(event.topic, value=event.value, key=event.key.encode(), headers=headers_of(event))
        future.add_callback(lambda _: loop.call_soon_threadsafe(settle, None))
        future.add_errback(lambda error: loop.call_soon_threadsafe(settle, error))

    def _connected_producer(self) -> Any:
        with self._lock:
            if self._producer is None:
                limit_ms = round(self._timeout_s * 1000)
                self._producer = _connected(
                    KafkaProducer,
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    max_request_size=_MOST_BYTES,
                    bootstrap_timeout_ms=limit_ms,
                    max_block_ms=limit_ms,
                    request_timeout_ms=max(limit_ms // 2, 1),
                    delivery_timeout_ms=limit_ms,
                    reconnect_backoff_max_ms=1000,
                )
            return self._producer

    def _discard(self, used: list[Any]) -> None:
        """Lets go of a producer that failed; one that was made since belongs to a later call."""
        for producer in used:
            if self._producer is producer:
                self._producer = None
            self._senders.submit(_close_at_once, producer)

    async def check(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._checker, self._describe_topics)

    def _describe_topics(self) -> None:
        """Runs in a thread. Asks the brokers, since the producer's own metadata outlives them."""
        try:
            if self._admin is None:
                self._admin = _connected(
                    KafkaAdminClient,
                    bootstrap_servers=self._bootstrap,
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
            raise Unavailable("kafka") from error
        if missing := set(self._topics) - known:
            raise Unavailable("kafka", f"has no topic {', '.join(sorted(missing))}")
        if leaderless:
            raise Unavailable("kafka", f"has partitions without leader of {', '.join(sorted(leaderless))}")

    async def close(self) -> None:
        """Waits for nothing: every publish has already waited for its own acknowledgement."""
        if self._producer is not None:
            self._discard([self._producer])
        if self._admin is not None:
            self._checker.submit(self._admin.close)
        self._senders.shutdown(wait=True)
        self._checker.shutdown(wait=True)


def _close_at_once(producer: Any) -> None:
    """Closing flushes first, and with a batch still owed that raises instead of closing."""
    try:
        producer.close(timeout=0)
    except KafkaError:
        producer._sender.force_close()


def _connected(kind: Any, **config: Any) -> Any:
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
