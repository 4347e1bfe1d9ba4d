"""Publishes what the outbox owes: at once for the calls that wait for it, and in the background for those that ended.

Both ways are one: a key's events are claimed, published in their order, none after one that failed, and taken off the
outbox. So no event of a key overtakes another, a call's own included, and an event that is sent twice (its sender died,
or was slow) has the same id and bytes. The keys that calls name at the same time are claimed, published and settled
together, which costs little more than one of them alone.

It knows the order of these steps, pauses and metrics. It does not know SQL, Kafka, nor what the events tell.
"""

import asyncio
import logging
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.runtime.batches import Batches
from services.runtime.calls import to_the_end
from services.runtime.clock import Clock
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, RetryableError, Unavailable
from services.runtime.events import Event, Events, Refused
from services.runtime.leases import new_token
from services.runtime.outbox import Outbox, Owed
from services.runtime.settings import KafkaSettings

_log = logging.getLogger(__name__)

_POLL_S = 0.1  # while another replica publishes the key's events
_MOST_KEYS = 256  # whose events are claimed together
_AT_ONCE = 2  # such claims: while Kafka takes the events of one, the database takes the other


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
class _Turn:
    """A key whose events are to be published, for a `call` that waits or by the `relay`."""

    key: str
    by: str


@dataclass
class _Outcome:
    """Of one turn at a key's events: the ids that Kafka took, and what ended the turn early."""

    published: set[str] = field(default_factory=set)
    failure: Exception | None = None


class Relay:
    """Publishes the events of one outbox, each to the topic of its type. `run` is the background, until cancelled."""

    def __init__(
        self,
        outbox: Outbox,
        events: Events,
        topics: Mapping[str, str],
        metrics: RelayMetrics,
        clock: Clock,
        settings: KafkaSettings,
    ) -> None:
        self._outbox = outbox
        self._events = events
        self._topics = topics
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._turns: Batches[_Turn, _Outcome] = Batches(self._publish_owed, most=_MOST_KEYS, at_once=_AT_ONCE)
        self._publishing: dict[str, asyncio.Task[dict[str, _Outcome]]] = {}  # by key
        self._after = ""  # the key after which the next look begins

    async def deliver(self, key: str, event_id: str) -> None:
        """Returns when Kafka has acknowledged the event, and all earlier ones of its key before.

        Raises:
            Unavailable, DeadlineExceeded: not yet; the relay goes on, and so does a repeat of the call.
            RuntimeError: Kafka refuses the event for ever.
        """
        if (error := (await self.deliver_all({event_id: key})).get(event_id)) is not None:
            raise error

    async def deliver_all(self, keys: Mapping[str, str], *, are_new: bool = False) -> dict[str, Exception]:
        """As `deliver` for many events, by their ids: what it would raise for each that is not acknowledged.

        `are_new` says that they were stored just now, so that nobody has to look whether they are acknowledged.
        """
        limit_s = remaining_s(self._settings.kafka_timeout_s)
        ended: dict[str, Exception | None] = {}
        try:
            async with asyncio.timeout(limit_s):
                await self._deliver(keys, ended, are_new)
            late: Exception | None = None
        except TimeoutError as error:
            is_callers = limit_s < self._settings.kafka_timeout_s
            late = DeadlineExceeded() if is_callers else Unavailable("kafka", "has not acknowledged the event yet")
            late.__cause__ = error
        outcomes = {event_id: ended.get(event_id, late) for event_id in keys}
        return {event_id: error for event_id, error in outcomes.items() if error is not None}

    async def _deliver(self, keys: Mapping[str, str], ended: dict[str, Exception | None], are_new: bool) -> None:
        """Notes how it ended for each event, until there is none left."""
        owed = dict(keys)
        if not are_new:
            await self._look_for(owed, ended)
        while owed:
            tasks = self._publish(set(owed.values()), by="call")
            await asyncio.wait(tasks)  # they go on without this call, should it end: others may wait for the same keys
            outcomes: dict[str, _Outcome] = {}
            for task in tasks:
                outcomes |= task.result()
            got_on = False
            for event_id, key in list(owed.items()):
                outcome = outcomes[key]
                got_on = got_on or bool(outcome.published)
                if event_id in outcome.published or outcome.failure is not None:
                    ended[event_id] = None if event_id in outcome.published else outcome.failure
                    del owed[event_id]
            if owed and not got_on:
                await self._look_for(owed, ended)
                await asyncio.sleep(_POLL_S if owed else 0)

    async def _look_for(self, owed: dict[str, str], ended: dict[str, Exception | None]) -> None:
        """Keeps in `owed` what is owed, and notes how it ended for the others."""
        found = await self._outbox.find(owed)
        for event_id in list(owed):
            if refusal := found.get(event_id):
                ended[event_id] = RuntimeError(f"Kafka refuses event {event_id}: {refusal}")
            elif event_id not in found:
                ended[event_id] = None
            else:
                continue
            del owed[event_id]

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
        await self._turns.stop()

    async def _look(self) -> bool:
        """Publishes what is owed now. False when Kafka took none of it."""
        backlog = await self._outbox.backlog()
        self._metrics.pending.set(backlog.owed)
        self._metrics.refused.set(backlog.refused)
        self._metrics.oldest_s.set(max(0, self._clock() - (backlog.oldest_us or self._clock())) / 1e6)
        published, failure, is_more = 0, None, backlog.owed > 0
        while is_more:
            # Each turn takes the keys behind those of the turn before: one that fails keeps no other from its turn.
            keys = await self._outbox.waiting(self._after, _MOST_KEYS) or await self._outbox.waiting("", _MOST_KEYS)
            self._after = keys[-1] if keys else ""
            tasks = self._publish(keys, by="relay")
            if tasks:
                await asyncio.wait(tasks)
            outcomes = [outcome for task in tasks for outcome in task.result().values()]
            some = sum(len(outcome.published) for outcome in outcomes)
            failures = (outcome.failure for outcome in outcomes)
            # A fault of ours with one key's events says nothing of the others; Kafka or the database away does.
            failure = next((failure for failure in failures if isinstance(failure, RetryableError)), None)
            published += some
            is_more = some > 0 and failure is None
        if published:
            _log.info("published events that were owed", extra={"events": published})
        if failure is not None:
            _log.warning("events are owed: %s", failure, extra={"owed": backlog.owed})
        return failure is None or published > 0

    def _publish(self, keys: Collection[str], *, by: str) -> set[asyncio.Task[dict[str, _Outcome]]]:
        """The tasks of this process that publish these keys' events, one for each key; each gives outcomes by key."""
        free = [key for key in keys if key not in self._publishing]
        if free:
            task = asyncio.create_task(self._take_turn(free, by))
            self._publishing |= dict.fromkeys(free, task)
            task.add_done_callback(lambda _: [self._publishing.pop(key) for key in free])
        return {self._publishing[key] for key in keys}

    async def _take_turn(self, keys: Sequence[str], by: str) -> dict[str, _Outcome]:
        try:
            return dict(zip(keys, await self._turns.run([_Turn(key, by) for key in keys]), strict=True))
        except Exception as error:
            if not isinstance(error, RetryableError):
                _log.exception("could not publish events", extra={"keys": len(keys)})
            return {key: _Outcome(failure=error) for key in keys}

    async def _publish_owed(self, turns: Sequence[_Turn]) -> Sequence[_Outcome]:
        """Claims what these keys owe, publishes it, and takes it off the outbox."""
        token, by = new_token(), {turn.key: turn.by for turn in turns}
        outcomes = {key: _Outcome() for key in by}
        try:
            owed = await self._outbox.claim(by, token)
        except asyncio.CancelledError:  # it may be committed all the same
            await to_the_end(self._outbox.settle(token, (), {}, by))
            raise
        if not owed:
            return list(outcomes.values())
        refusals: dict[str, str] = {}
        try:
            for event, error in zip(owed, await self._events.publish_all(self._sent(owed)), strict=True):
                if error is None:
                    outcomes[event.key].published.add(event.event_id)
                elif isinstance(error, Refused):
                    refusals[event.event_id] = _noted(event, error)
                elif outcomes[event.key].failure is None:
                    outcomes[event.key].failure = _noticed(event, error)
        finally:  # a stop gives up the claims, too
            acknowledged = [event_id for outcome in outcomes.values() for event_id in outcome.published]
            await to_the_end(self._outbox.settle(token, acknowledged, refusals, {event.key for event in owed}))
        for key, outcome in outcomes.items():
            self._metrics.published.labels(by[key]).inc(len(outcome.published))
        return list(outcomes.values())

    def _sent(self, owed: Sequence[Owed]) -> Sequence[Event]:
        return [
            Event(self._topics[each.event_type], each.key, each.event_id, each.event_type, each.value, each.traceparent)
            for each in owed
        ]


def _noted(event: Owed, refused: Refused) -> str:
    """Why Kafka never takes the event."""
    extra = {"event_id": event.event_id, "event_type": event.event_type, "bytes": len(event.value)}
    _log.error("kafka refuses an event for ever: %s", refused, extra=extra)
    return str(refused)


def _noticed(event: Owed, failure: Exception) -> Exception:
    """What keeps Kafka from taking the event now; in the log, if that is a fault of ours."""
    if not isinstance(failure, RetryableError):
        _log.error("could not publish the events of a merchant", exc_info=failure, extra={"user_id": event.key})
    return failure


def _unless_known(error: Exception) -> bool:
    return not isinstance(error, RetryableError)
