"""The service's other way in: what groups showed and what was picked in them, from Kafka into the histories.

Reads both topics from where the database says, keeps a batch with the offsets behind it, and goes on. A process may be
killed anywhere and started anywhere, beside others: a batch is kept once, or once more to no effect. Histories can be
made again from Kafka, so what Kafka no longer has is counted and passed, and nothing that the service answers waits for
Kafka. It knows the order of these steps. It does not know Kafka, SQL, nor how favours follow.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from contract import tracing
from contract.topics import RETENTION_DAYS, Partition
from services.runtime.clock import Clock
from services.runtime.records import Bounds, Offsets, Record, Records
from services.runtime.workers import repeat
from services.user_embedding import incoming
from services.user_embedding.incoming import Incoming, Poison
from services.user_embedding.metrics import HistoryMetrics
from services.user_embedding.ports import Histories

PAUSE_S = 1.0  # at most, after a failure, and before partitions are looked at again
_LOOK_EVERY_S = 60.0  # for partitions that were added
_LAG_EVERY_S = 5.0
_SWEEP_EVERY_S = 3600.0
_WAIT_FOR_PICK_US = (RETENTION_DAYS + 1) * 86_400_000_000  # a group's; Kafka keeps a pick no longer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Consumer:
    """Fills the histories."""

    records: Records
    histories: Histories
    metrics: HistoryMetrics
    clock: Clock

    async def run(self) -> None:
        """Reads until it is cancelled."""
        await repeat(self._session, name="reading picks", interval_s=PAUSE_S)

    async def sweep(self) -> None:
        """Forgets groups whose pick will not come, until it is cancelled."""
        await repeat(self._sweep_once, name="forgetting groups without pick", interval_s=_SWEEP_EVERY_S)

    async def _sweep_once(self) -> None:
        await self.histories.sweep(self.clock() - _WAIT_FOR_PICK_US)

    async def _session(self) -> None:
        """Reads with one look at partitions and offsets; returns when it is time for another."""
        self.metrics.reading.set(0)
        try:
            bounds = await self.records.bounds()
            stored = await self.histories.offsets()
            starts = self._starts(stored, bounds)
            await self.records.start(starts)
            await self._follow({p: stored.get(p, start) for p, start in starts.items()})
        finally:
            self.metrics.reading.set(0)

    def _starts(self, stored: Offsets, bounds: Mapping[Partition, Bounds]) -> dict[Partition, int]:
        found = dict[Partition, int]()
        for partition, held in bounds.items():
            offset = stored.get(partition, held.begin)
            if offset < held.begin:
                self.metrics.lost.labels(partition.topic).inc(held.begin - offset)
                _log.error("%s/%d: records ended unread", partition.topic, partition.number)
            if offset > held.end:  # others may lie at offsets that were read; what is kept already changes nothing
                _log.error("%s/%d has lost records; read from its beginning", partition.topic, partition.number)
            found[partition] = offset if held.begin <= offset <= held.end else held.begin
        return found

    async def _follow(self, expected: Offsets) -> None:
        until, lag_at = time.monotonic() + _LOOK_EVERY_S, 0.0
        while time.monotonic() < until:
            records, reached = await self.records.read()
            if reached != expected:
                if not await self._keep(records, expected, reached):
                    _log.info("another replica has read on")
                    return
                expected = reached
                self._count_delays(records)
            self.metrics.reading.set(1)
            if time.monotonic() >= lag_at:
                await self._measure_lag(reached)
                lag_at = time.monotonic() + _LAG_EVERY_S

    async def _keep(self, records: Sequence[Record], expected: Offsets, reached: Offsets) -> bool:
        """As the histories say; in the traces of the calls that the records are of."""
        came = (tracing.of(record.headers.items()) for record in records)
        told: tracing.Attributes = {"messaging.system": "kafka", "messaging.batch.message_count": len(records)}
        with tracing.entry("keep picks", came, kind=SpanKind.CONSUMER, attributes=told):
            return await self.histories.apply(self._events(records), expected, reached)

    def _events(self, records: Sequence[Record]) -> list[Incoming]:
        found = list[Incoming]()
        for record in records:
            try:
                event = incoming.read(record)
            except Poison as error:  # training's collector keeps it as a dead letter
                _log.warning("a record of %s is no event: %s", record.topic, error)
                self.metrics.records.labels(record.topic, "poison").inc()
                continue
            self.metrics.records.labels(record.topic, "kept" if event else "told nothing").inc()
            found += [event] if event else []
        return found

    def _count_delays(self, records: Sequence[Record]) -> None:
        now_s = self.clock() / 1e6
        for record in records:
            if (sent_s := incoming.sent_at_s(record)) is not None:
                self.metrics.delay_s.labels(record.topic).observe(max(0.0, now_s - sent_s))

    async def _measure_lag(self, reached: Offsets) -> None:
        ends = await self.records.ends()
        lag: dict[str, int] = dict.fromkeys((partition.topic for partition in reached), 0)
        for partition, offset in reached.items():
            lag[partition.topic] += max(0, ends[partition] - offset)
        for topic, count in lag.items():
            self.metrics.lag.labels(topic).set(count)
