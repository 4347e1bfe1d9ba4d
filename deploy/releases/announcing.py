"""Tells Kafka what changed: ReleaseChanged on the compacted topic, one acknowledged after the other, in bounded time.

What Kafka has not acknowledged is owed, and published with the next command; no change waits for Kafka. A change that
is published again has the same event id and bytes. Knows kafka-python and the message; not what may change.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaProducer
from kafka.errors import AuthorizationError, ClusterAuthorizationFailedError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from perfusion.v1 import events_pb2

from contract import topics
from contract.kafka_access import KafkaAccess
from contract.repository import ANNOUNCING, Repository
from deploy.releases.errors import ReleaseError
from deploy.releases.history import Change, History

NAME = "perfusion"  # of the model family; the key
LIMIT_S = 3.0


class AnnouncementError(ReleaseError):
    """Kafka has not acknowledged a change; it stays owed."""


def announce(repository: Repository, kafka: KafkaAccess, limit_s: float | None = None) -> int:
    """Publishes the changes that are owed, oldest first, and returns how many Kafka acknowledged.

    Args:
        kafka: where it is, and the certificate to show it.
        limit_s: longest wait for all of them; LIMIT_S if not given.

    Raises:
        AnnouncementError: it did not acknowledge them all.
        LockedError: another process publishes them.
    """
    with repository.lock(ANNOUNCING, "announce"):
        history = History(repository.root)
        owed = history.owed()
        if owed:
            _within(limit_s or LIMIT_S, kafka, owed, history.mark_announced)
        return len(owed)


def message(change: Change) -> events_pb2.ReleaseChanged:
    """The event that tells of a change."""
    event = events_pb2.ReleaseChanged(
        name=NAME,
        release=change.live,
        previous_release=change.previous or 0,
        change=events_pb2.Change.Value(change.what),
        fallback_release=change.fallback or 0,
        trial_release=change.trial or 0,
        mixed_share=change.mixed_share,
        exploration_share=change.exploration_share,
        base_release=change.base or 0,
        holdback_share=change.holdback_share,
        reason=change.reason,
    )
    event.change_time.FromDatetime(change.time)
    return event


def _within(limit_s: float, kafka: KafkaAccess, owed: Sequence[Change], acknowledged: Callable[[int], None]) -> None:
    """Publishes in a thread that is left behind when the time is over: a name may take long to resolve."""
    is_over = threading.Event()
    failures: list[Exception] = []

    def publish() -> None:
        try:
            _publish(kafka, owed, lambda number: None if is_over.is_set() else acknowledged(number), limit_s)
        except Exception as error:  # a thread that dies of anything has not published
            failures.append(error)

    logging.getLogger("kafka").addHandler(logging.NullHandler())  # it reports each refused connection
    thread = threading.Thread(target=publish, daemon=True, name="announce")
    thread.start()
    thread.join(limit_s + 0.5)  # its own limits end it a little earlier
    is_over.set()
    if thread.is_alive() or failures:
        why = _reason(failures[0], kafka) if failures else f"no answer in {limit_s:g} s"
        raise AnnouncementError(f"Kafka at {kafka.bootstrap} has not acknowledged what changed ({why}); it stays owed")


def _reason(failure: Exception, kafka: KafkaAccess) -> str:
    told = str(failure) or repr(failure)
    if isinstance(failure, AuthorizationError) or ClusterAuthorizationFailedError.__name__ in told:  # of a producer
        return f"{told}: the name in its certificate needs the right to write {topics.RELEASES} (contract/topics.py)"
    return f"{told}: {kafka.doubt}" if isinstance(failure, KafkaTimeoutError) else told


def _publish(kafka: KafkaAccess, owed: Sequence[Change], acknowledged: Callable[[int], None], limit_s: float) -> None:
    producer = _connected(kafka, round(limit_s * 1000))
    try:
        for change in owed:
            event = message(change)
            producer.send(
                topics.RELEASES,
                key=NAME.encode(),
                value=event.SerializeToString(deterministic=True),
                headers=topics.headers(change.event_id, event.DESCRIPTOR.full_name, datetime.now(UTC), None),
            ).get(timeout=limit_s)
            acknowledged(change.number)
    finally:
        try:
            producer.close(timeout=0)
        except KafkaError:  # something unsent is left
            producer._sender.force_close()


def _connected(kafka: KafkaAccess, limit_ms: int) -> Any:
    """A producer. One that cannot connect would leave its thread and sockets behind."""
    made: list[Any] = []

    def network(**config: Any) -> Any:
        made.append(KafkaNetClient(**config))
        return made[-1]

    try:
        return KafkaProducer(
            kafka_client=network,
            **kafka.config,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=limit_ms,
            max_block_ms=limit_ms,
            request_timeout_ms=max(limit_ms // 2, 1),
            delivery_timeout_ms=limit_ms,
            reconnect_backoff_max_ms=1000,
        )
    except Exception:
        for client in made:
            client.close()
        raise
