"""A client's side of a local cluster: the services' stubs, and the events that a topic holds.

Knows the public API and Kafka's consumer; used by the demonstration and the tests, never by a service.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from kafka import KafkaConsumer, TopicPartition
from perfusion.client import Identity
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.items_service_pb2_grpc import ItemsServiceStub
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from deploy.local.kafka_broker import COLLECTOR, access
from deploy.local.layout import Layout

MAX_MESSAGE_BYTES = 32 * 2**20
READ_LIMIT_MS = 10_000
CALL_S = 30.0  # the longest call of what has no limit of its own
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Clients:
    """One stub per service."""

    users: UserEmbeddingServiceStub
    generation: GenerationServiceStub
    ranking: RankingServiceStub
    feedback: FeedbackServiceStub
    items: ItemsServiceStub


def credentials(layout: Layout) -> grpc.ChannelCredentials:
    """The local client's, with its token in every call; OSError where the cluster has never been started."""
    return Identity(layout.client).credentials()


def open_channel(layout: Layout, service: str, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
    """A channel to a service."""
    return grpc.secure_channel(layout.address(service), credentials(layout), options=options)


def open_aio_channel(layout: Layout, service: str, options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Channel:
    """The same for asyncio."""
    return grpc.aio.secure_channel(layout.address(service), credentials(layout), options=options)


@contextmanager
def connect(layout: Layout) -> Iterator[Clients]:
    """Channels that find a restarted service again within a second, closed at the end."""
    names = ("user_embedding", "generation", "ranking", "feedback", "items")
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    channels = {name: open_channel(layout, name, options) for name in names}
    try:
        yield Clients(
            users=UserEmbeddingServiceStub(channels["user_embedding"]),
            generation=GenerationServiceStub(channels["generation"]),
            ranking=RankingServiceStub(channels["ranking"]),
            feedback=FeedbackServiceStub(channels["feedback"]),
            items=ItemsServiceStub(channels["items"]),
        )
    finally:
        for channel in channels.values():
            channel.close()


def put_on_sale(items: ItemsServiceStub, user_id: str, terms: pb.PresaleTerms) -> pb.Presale:
    """A merchant's item, made and opened."""
    made = api.CreatePresaleRequest(request_id=str(uuid4()), user_id=user_id, terms=terms)
    draft = items.CreatePresale(made, timeout=CALL_S).presale
    opening = api.OpenPresaleRequest(presale_id=draft.presale_id, user_id=user_id, etag=draft.etag)
    return items.OpenPresale(opening, timeout=CALL_S).presale


@dataclass(frozen=True)
class Record(Generic[M]):
    """One event as it lies in Kafka."""

    key: str
    headers: dict[str, str]
    message: M


def read_events(layout: Layout, topic: str, kind: type[M], key: str) -> list[Record[M]]:
    """Everything the topic holds now under this key, oldest first within a partition."""
    consumer = KafkaConsumer(
        **access(layout, COLLECTOR).config, enable_auto_commit=False, consumer_timeout_ms=READ_LIMIT_MS
    )
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        records = []
        give_up = time.monotonic() + READ_LIMIT_MS / 1000
        while any(consumer.position(p) < ends[p] for p in partitions):
            if time.monotonic() > give_up:
                raise TimeoutError(f"Kafka did not give the events of {topic} in {READ_LIMIT_MS / 1000:.0f} s")
            for batch in consumer.poll(timeout_ms=1000).values():
                records += [_record(r, kind) for r in batch if r.key == key.encode()]
        return records
    finally:
        consumer.close()


def _record(raw: Any, kind: type[M]) -> Record[M]:
    message = kind()
    message.ParseFromString(raw.value)
    headers = {name: value.decode() for name, value in raw.headers}
    return Record(raw.key.decode(), headers, message)
