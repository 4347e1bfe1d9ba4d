"""Kafka's side of collecting: which partitions there are, what they hold now, their records, and dead letters.

Partitions are assigned, not subscribed to: the table that the records go into is the only memory of offsets, so a
consumer group would be a second one. Knows kafka-python; nothing about events or tables.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from kafka.net.compat import KafkaNetClient

from contract.kafka_access import KafkaAccess
from contract.topics import DEAD_LETTERS, FEEDBACK, GROUPS, HEADER_REASON, HEADERS_ORIGIN, SHOP, Partition
from training.common.errors import ModelError
from training.retraining.incoming import Origin, Record

TOPICS = (GROUPS, FEEDBACK, SHOP)
PATIENCE_S = 30.0  # for an answer of the brokers
_MOST_BYTES = 32 * 2**20  # of one record, as the services allow
_POLL_MS = 200


class KafkaRefused(ModelError):
    """Kafka is not there, or has not what is to be read; the message says what to do."""


class TopicMissing(KafkaRefused):
    """A topic is not there, and does not come by waiting."""


class NotAllowed(KafkaRefused):
    """This process's certificate has not the right to a topic, which does not come by waiting."""


def partition_of(origin: Origin) -> Partition:
    """The partition that a record lies in."""
    return Partition(origin.cluster_id, origin.topic, origin.topic_id, origin.partition)


@dataclass(frozen=True)
class Bounds:
    """What a partition holds: the records from `begin` until before `end`."""

    begin: int
    end: int


class Broker:
    """One Kafka cluster. Every method raises KafkaRefused where the brokers do not answer.

    NotAllowed is raised where they know this process, and refuse it.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        with _answering(kafka, kafka.doubt):
            self._admin = _client(
                KafkaAdminClient, **kafka.config, bootstrap_timeout_ms=_ms(PATIENCE_S),
                request_timeout_ms=_ms(10),
            )  # fmt: skip
            self._consumer = _client(
                KafkaConsumer, **kafka.config, enable_auto_commit=False, auto_offset_reset="none",
                max_partition_fetch_bytes=8 * 2**20, fetch_max_bytes=_MOST_BYTES, max_poll_records=10_000,
                check_crcs=False,  # brokers do when they take records; in Python it would be most of a batch's time
            )  # fmt: skip
        self._producer: Any = None
        self._reading: dict[tuple[str, int], Partition] = {}

    def partitions(self, topics: Iterable[str] = TOPICS) -> list[Partition]:
        """All partitions of these topics, in order.

        Raises:
            TopicMissing: one of them is not there.
        """
        with _answering(self._kafka):
            # Not describe_cluster: it asks for rights on the cluster, whose refusal the broker logs each time.
            found = self._admin._manager.run(self._admin._get_cluster_metadata, list(topics))
        cluster_id, described = str(found["cluster_id"]), found["topics"]
        for topic in described:
            if topic["error_code"] == UnknownTopicOrPartitionError.errno:
                raise TopicMissing(
                    f"Kafka at {self.where} has no topic {topic['name']}: create it (contract/topics.py)"
                )
            if topic["error_code"] == TopicAuthorizationFailedError.errno:
                raise NotAllowed(_not_allowed(self._kafka, topic["name"]))
            if topic["error_code"]:
                raise KafkaRefused(f"Kafka at {self.where} does not describe {topic['name']}: {topic['error_code']}")
        return sorted(
            Partition(cluster_id, topic["name"], str(topic["topic_id"]), part["partition_index"])
            for topic in described
            for part in topic["partitions"]
        )

    @property
    def where(self) -> str:
        return self._kafka.bootstrap

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, Bounds]:
        """What these hold now."""
        named = {TopicPartition(p.topic, p.number): p for p in partitions}
        with _answering(self._kafka):
            begins, ends = self._consumer.beginning_offsets(list(named)), self._consumer.end_offsets(list(named))
        return {partition: Bounds(begins[key], ends[key]) for key, partition in named.items()}

    def start(self, offsets: Mapping[Partition, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._reading = {(p.topic, p.number): p for p in offsets}
        with _answering(self._kafka):
            self._consumer.assign([TopicPartition(p.topic, p.number) for p in offsets])
            for p, offset in offsets.items():
                self._consumer.seek(TopicPartition(p.topic, p.number), offset)

    def read(self, most: int, limit_s: float = _POLL_MS / 1000) -> list[Record]:
        """The next records, at most so many, in each partition's order; none if there are none within the time."""
        with _answering(self._kafka):
            polled = self._consumer.poll(timeout_ms=_ms(limit_s), max_records=most)
        return [self._record(raw) for batch in polled.values() for raw in batch]

    def positions(self) -> dict[Partition, int]:
        """The offset of each partition's next record, past gaps that hold none."""
        with _answering(self._kafka):
            return {p: self._consumer.position(TopicPartition(*key)) for key, p in self._reading.items()}

    def bury(self, letters: Iterable[tuple[Record, str]]) -> None:
        """Puts records on the topic of dead letters, each with its origin and reason; returns when they are there."""
        with _answering(self._kafka):
            if self._producer is None:
                self._producer = KafkaProducer(
                    **self._kafka.config, acks="all", enable_idempotence=True,
                    allow_auto_create_topics=False, max_request_size=_MOST_BYTES,
                    max_block_ms=_ms(PATIENCE_S), delivery_timeout_ms=_ms(PATIENCE_S), request_timeout_ms=_ms(10),
                )  # fmt: skip
            sent = [
                self._producer.send(DEAD_LETTERS, value=r.value, key=r.key, headers=[*r.headers, *_origin(r, reason)])
                for r, reason in letters
            ]
            for future in sent:
                future.get(timeout=PATIENCE_S)

    def close(self) -> None:
        """Lets go of connections."""
        self._consumer.close(timeout_ms=_ms(1))
        self._admin.close()
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _record(self, raw: Any) -> Record:
        p = self._reading[raw.topic, raw.partition]
        origin = Origin(p.cluster_id, p.topic, p.topic_id, p.number, raw.offset)
        return Record(origin, raw.key, raw.value, tuple(raw.headers))


def _origin(record: Record, reason: str) -> list[tuple[str, bytes]]:
    o = record.origin
    values = (o.cluster_id, o.topic, o.topic_id, o.partition, o.offset)
    named = zip(HEADERS_ORIGIN, values, strict=True)
    return [*((name, str(value).encode()) for name, value in named), (HEADER_REASON, reason.encode())]


def dead_letter(letter: Record) -> tuple[Record, str]:
    """The record that a dead letter was made of, and the reason that it carries.

    Raises:
        KafkaRefused: it says no origin.
    """
    told = dict(letter.headers)
    added = {*HEADERS_ORIGIN, HEADER_REASON}
    try:
        cluster_id, topic, topic_id, partition, offset = (told[name].decode() for name in HEADERS_ORIGIN)
        origin = Origin(cluster_id, topic, topic_id, int(partition), int(offset))
        reason = told[HEADER_REASON].decode()
    except (KeyError, ValueError) as error:
        where = f"{letter.origin.topic}/{letter.origin.partition} at {letter.origin.offset}"
        raise KafkaRefused(f"{where} is no dead letter of ours: {error}") from error
    kept = tuple((name, value) for name, value in letter.headers if name not in added)
    return Record(origin, letter.key, letter.value, kept), reason


@contextmanager
def _answering(kafka: KafkaAccess, doubt: str = "") -> Iterator[None]:
    try:
        yield
    except AuthorizationError as error:
        raise NotAllowed(_not_allowed(kafka, str(error))) from error
    except (KafkaError, TimeoutError) as error:
        why = f"{error or type(error).__name__}{doubt and f' ({doubt})'}"
        raise KafkaRefused(f"Kafka at {kafka.bootstrap} does not answer: {why}") from error


def _not_allowed(kafka: KafkaAccess, what: str) -> str:
    who = f"the name in {kafka.certificates}" if kafka.certificates else "who shows no certificate"
    return f"Kafka at {kafka.bootstrap} does not let {who} use {what}: its rights are those of contract/topics.py"


def _client(kind: Any, **config: Any) -> Any:
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


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
