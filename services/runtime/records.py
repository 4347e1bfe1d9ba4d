"""Reading Kafka's records: which partitions there are, what they hold, and their records in order.

Partitions are assigned, not subscribed to: who reads keeps the offsets beside what it makes of the records, so a
consumer group would be a second memory. Services depend on `Records`; `KafkaRecords` implements it. It knows
kafka-python; it does not know the records' meaning.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from contract.kafka_access import KafkaAccess
from contract.topics import Partition
from services.runtime.errors import Unavailable
from services.runtime.events import connected, not_allowed, without_right

_MOST_RECORDS = 1_000  # of one batch
_MOST_BYTES = 32 * 2**20  # of one record, as the services allow
_POLL_S = 0.2
_MOST_CONNECTING_S = 2.0  # then it is tried again: a service that is told to stop does not wait for Kafka
T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """What a partition holds: the records from `begin` until before `end`."""

    begin: int
    end: int


@dataclass(frozen=True)
class Record:
    """One record as it came."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


Offsets = Mapping[Partition, int]  # of the next record


class Records(ABC):
    """Some topics. Every method raises Unavailable where Kafka does not answer."""

    @abstractmethod
    async def bounds(self) -> Mapping[Partition, Bounds]:
        """All partitions, and what they hold now."""

    @abstractmethod
    async def start(self, offsets: Offsets) -> None:
        """Reads these partitions from these offsets on."""

    @abstractmethod
    async def read(self) -> tuple[Sequence[Record], Offsets]:
        """The next records, in each partition's order, and the offsets behind them; none if none come soon."""

    @abstractmethod
    async def ends(self) -> Offsets:
        """The end of each partition that is read."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections."""


class KafkaRecords(Records):
    """Kafka through kafka-python, which blocks: everything runs in one thread of its own.

    The clients are made on first use, so Kafka may start later than the service, and made anew after a failure.
    """

    def __init__(self, kafka: KafkaAccess, topics: tuple[str, ...], *, timeout_s: float) -> None:
        self._kafka = kafka
        self._topics = topics
        self._timeout_s = timeout_s
        self._consumer: Any = None
        self._reading: dict[tuple[str, int], Partition] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-read")

    async def bounds(self) -> Mapping[Partition, Bounds]:
        return await self._run(self._bounds)

    def _bounds(self) -> Mapping[Partition, Bounds]:
        admin = connected(
            KafkaAdminClient,
            **self._kafka.config,
            request_timeout_ms=round(self._timeout_s * 1000),
            bootstrap_timeout_ms=self._connecting_ms,
        )
        try:
            # Not describe_cluster: it asks for rights on the cluster, whose refusal the broker logs each time.
            found = admin._manager.run(admin._get_cluster_metadata, list(self._topics))
        finally:
            admin.close()
        cluster_id, described = str(found["cluster_id"]), found["topics"]
        if forbidden := without_right("READ", described):
            raise not_allowed("read", forbidden)
        if missing := [topic["name"] for topic in described if topic["error_code"]]:
            raise Unavailable("kafka", f"has no topic {', '.join(sorted(missing))}")
        partitions = [
            Partition(cluster_id, topic["name"], str(topic["topic_id"]), part["partition_index"])
            for topic in described
            for part in topic["partitions"]
        ]
        named = {TopicPartition(p.topic, p.number): p for p in partitions}
        consumer = self._connected_consumer()
        begins, ends = consumer.beginning_offsets(list(named)), consumer.end_offsets(list(named))
        return {partition: Bounds(begins[key], ends[key]) for key, partition in named.items()}

    async def start(self, offsets: Offsets) -> None:
        await self._run(lambda: self._start(offsets))

    def _start(self, offsets: Offsets) -> None:
        consumer = self._connected_consumer()
        self._reading = {(p.topic, p.number): p for p in offsets}
        consumer.assign([TopicPartition(*key) for key in self._reading])
        for partition, offset in offsets.items():
            consumer.seek(TopicPartition(partition.topic, partition.number), offset)

    async def read(self) -> tuple[Sequence[Record], Offsets]:
        return await self._run(self._read)

    def _read(self) -> tuple[Sequence[Record], Offsets]:
        consumer = self._connected_consumer()
        polled = consumer.poll(timeout_ms=round(_POLL_S * 1000), max_records=_MOST_RECORDS)
        records = [
            Record(raw.topic, raw.key, raw.value, dict(raw.headers)) for batch in polled.values() for raw in batch
        ]
        return records, {p: consumer.position(TopicPartition(*key)) for key, p in self._reading.items()}

    async def ends(self) -> Offsets:
        return await self._run(self._ends)

    def _ends(self) -> Offsets:
        ends = self._connected_consumer().end_offsets([TopicPartition(*key) for key in self._reading])
        return {partition: ends[TopicPartition(*key)] for key, partition in self._reading.items()}

    @property
    def _connecting_ms(self) -> int:
        return round(min(self._timeout_s, _MOST_CONNECTING_S) * 1000)

    def _connected_consumer(self) -> Any:
        if self._consumer is None:
            self._consumer = connected(
                KafkaConsumer,
                **self._kafka.config,
                bootstrap_timeout_ms=self._connecting_ms,
                request_timeout_ms=round(self._timeout_s * 1000),
                reconnect_backoff_max_ms=1000,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_poll_records=_MOST_RECORDS,
                max_partition_fetch_bytes=8 * 2**20,
                fetch_max_bytes=_MOST_BYTES,
                check_crcs=False,  # brokers do when they take records
            )
        return self._consumer

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (KafkaError, TimeoutError) as error:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._discard)
            if isinstance(error, AuthorizationError):
                raise not_allowed("read", self._topics) from error
            raise Unavailable("kafka", f"does not answer: {self._kafka.doubt}") from error

    def _discard(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._reading = {}
        if consumer is not None:
            consumer.close(timeout_ms=0)

    async def close(self) -> None:
        self._thread.submit(self._discard)
        await asyncio.to_thread(self._thread.shutdown)
