"""Publishes what the outbox owes: at once for the calls that wait for it, and in the background for those that ended.

Both ways are one: a key's events are claimed, published one after the other, each only after Kafka has acknowledged
the one before it, and taken off the outbox. So no event of a key overtakes another, a call's own included, and an event
that is sent twice (its sender died, or was slow) has the same id and bytes. Keys do not wait for each other.

It knows the order of these steps, pauses and metrics. It does not know SQL, Kafka, nor what the events tell.
"""

import asyncio
import contextvars
import logging
import random
from dataclasses import dataclass
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.runtime.clock import Clock
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, RetryableError, Unavailable
from services.runtime.events import Event, Events, Refused
from services.runtime.outbox import Outbox, Owed
from services.runtime.settings import KafkaSettings

_log = logging.getLogger(__name__)

_POLL_S = 0.1  # while another replica publishes the key's events
_AT_ONCE = 8  # keys whose events are published at the same time


class RelayMetrics:
    """What is owed, as last seen in the database, and what this process has published."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pending = Gauge(
            "perfusion_outbox_pending", "Events stored and not yet acknowledged by Kafka.", registry=registry
        )
        self.oldest_s = Gauge(
            "perfusion_outbox_oldest_seconds", "Age of the oldest such event; 0 when there is none.", registry=registry
        )
        self.refused = Gauge(
            "perfusion_outbox_refused", "Events that Kafka refuses for their size or form.", registry=registry
        )
        self.published = Counter(
            "perfusion_outbox_published_total",
            "Events acknowledged by Kafka, published for a call that waits or by the relay.",
            ["by"],
            registry=registry,
        )


@dataclass(frozen=True)
class _Outcome:
    """Of one turn at a key's events: the ids that Kafka took, and what ended the turn early."""

    published: set[str]
    failure: Exception | None = None


class Relay:
    """Publishes the events of one outbox to one topic. `run` is the background; it ends when it is cancelled."""

    def __init__(
        self,
        outbox: Outbox,
        events: Events,
        topic: str,
        metrics: RelayMetrics,
        clock: Clock,
        settings: KafkaSettings,
    ) -> None:
        self._outbox = outbox
        self._events = events
        self._topic = topic
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._publishing: dict[str, asyncio.Task[_Outcome]] = {}  # by key
        self._after = ""  # the key after which the next look begins

    async def deliver(self, key: str, event_id: str) -> None:
        """Returns when Kafka has acknowledged the event, and all earlier ones of its key before.

        Raises:
            Unavailable, DeadlineExceeded: not yet; the relay goes on, and so does a repeat of the call.
            RuntimeError: Kafka refuses the event for ever.
        """
        limit_s = remaining_s(self._settings.kafka_timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                await self._deliver(key, event_id)
        except TimeoutError as error:
            if limit_s < self._settings.kafka_timeout_s:
                raise DeadlineExceeded from error
            raise Unavailable("kafka", "has not acknowledged the event yet") from error

    async def _deliver(self, key: str, event_id: str) -> None:
        while (refusal := await self._outbox.find(event_id)) is not None:
            if refusal:
                raise RuntimeError(f"Kafka refuses event {event_id}: {refusal}")
            task = self._publish(key, by="call")
            await asyncio.wait({task})  # goes on without this call, should it end: others may wait for the same key
            if task.cancelled():
                raise Unavailable("kafka", "has not acknowledged the event yet")
            outcome = task.result()
            if event_id in outcome.published:
                return
            if outcome.failure is not None:
                raise outcome.failure
            if not outcome.published:
                await asyncio.sleep(_POLL_S)

    async def run(self) -> None:
        """Looks for what is owed, until cancelled; then gives up the claims it holds."""
        failures = 0
        try:
            while True:
                try:
                    failures = 0 if await self._look() else failures + 1
                except Exception as error:  # the database is away, say: whatever it is, the relay must go on
                    failures += 1
                    _log.warning("the relay cannot go on for now: %s", error, exc_info=_unless_known(error))
                await asyncio.sleep(self._pause_s(failures))
        finally:
            await self._stop()

    def _pause_s(self, failures: int) -> float:
        """Doubles with each failure in a row, with jitter, so that replicas do not come back to Kafka together."""
        most_s = max(self._settings.outbox_interval_s, self._settings.outbox_backoff_s)
        return min(most_s, self._settings.outbox_interval_s * 2.0 ** min(failures, 30)) * random.uniform(0.5, 1.0)

    async def _stop(self) -> None:
        tasks = list(self._publishing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> bool:
        """Publishes what is owed now. False when Kafka took none of it."""
        backlog = await self._outbox.backlog()
        self._metrics.pending.set(backlog.owed)
        self._metrics.refused.set(backlog.refused)
        self._metrics.oldest_s.set(max(0, self._clock() - (backlog.oldest_us or self._clock())) / 1e6)
        published, failure, is_more = 0, None, backlog.owed > 0
        while is_more:
            # Each turn takes the keys behind those of the turn before: one that fails keeps no other from its turn.
            keys = await self._outbox.waiting(self._after, _AT_ONCE) or await self._outbox.waiting("", _AT_ONCE)
            self._after = keys[-1] if keys else ""
            outcomes = await asyncio.gather(*(self._publish(key, by="relay") for key in keys))
            some = sum(len(outcome.published) for outcome in outcomes)
            failures = (outcome.failure for outcome in outcomes)
            # A fault of ours with one key's events says nothing of the others; Kafka or the database away does.
            failure = next((failure for failure in failures if isinstance(failure, RetryableError)), None)
            published += some
            is_more = some > 0 and failure is None and len(keys) == _AT_ONCE
        if published:
            _log.info("published events that were owed", extra={"events": published})
        if failure is not None:
            _log.warning("events are owed: %s", failure, extra={"owed": backlog.owed})
        return failure is None or published > 0

    def _publish(self, key: str, *, by: str) -> asyncio.Task[_Outcome]:
        """The one task of this process that publishes the key's events."""
        task = self._publishing.get(key)
        if task is None:
            # A context of its own: neither the deadline nor the trace of a call belongs to the events of others.
            work = self._publish_owed(key, by)
            task = asyncio.create_task(work, name=f"publish {key}", context=contextvars.Context())
            self._publishing[key] = task
            task.add_done_callback(lambda _: self._publishing.pop(key))
        return task

    async def _publish_owed(self, key: str, by: str) -> _Outcome:
        token, published = str(uuid4()), set[str]()
        is_claimed = False
        try:
            owed = await self._outbox.claim(key, token)
            is_claimed = bool(owed)
            for event in owed:
                refusal = await self._send(event)
                is_last = event is owed[-1]
                is_held = await self._outbox.settle(event, token, refusal=refusal, release=is_last)
                if not refusal:
                    self._metrics.published.labels(by).inc()
                    published.add(event.event_id)
                is_claimed = is_held and not is_last
                if not is_held:  # taken over, because this process was slow: the other goes on
                    break
        except Exception as error:
            if not isinstance(error, RetryableError):
                _log.exception("could not publish the events of a merchant", extra={"user_id": key})
            return _Outcome(published, error)
        finally:
            if is_claimed:
                await self._release(key, token)
        return _Outcome(published)

    async def _send(self, event: Owed) -> str:
        """Returns when Kafka has the event, or why it never takes it; raises when it may take it later."""
        try:
            await self._events.publish(
                Event(self._topic, event.key, event.event_id, event.event_type, event.value, event.traceparent)
            )
        except Refused as error:
            extra = {"event_id": event.event_id, "event_type": event.event_type, "bytes": len(event.value)}
            _log.error("kafka refuses an event for ever: %s", error, extra=extra)
            return str(error)
        return ""

    async def _release(self, key: str, token: str) -> None:
        try:
            await self._outbox.release(key, token)
        except Exception:  # the first error is the one to report; the claim ends with its lease
            _log.warning("could not give up the claim on events", exc_info=True)


def _unless_known(error: Exception) -> bool:
    return not isinstance(error, RetryableError)
