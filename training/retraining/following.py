"""Follows Kafka's topics until it is told to stop: batches, what is told of them, and what to do when something is in
the way.

Where another process was faster, everything is read anew. Where Kafka does not answer, it is asked again with growing
pauses; a command that is to end by itself (`once`) gives up. Knows the clock and signals; what a batch becomes is in
training.retraining.collecting.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event as Flag
from types import FrameType

from contract.kafka_access import KafkaAccess
from contract.topics import DEAD_LETTERS, Partition
from training.retraining.broker import Broker, KafkaRefused, NotAllowed, TopicMissing, dead_letter
from training.retraining.collecting import Collector, Counts
from training.retraining.incoming import Record
from training.retraining.lake import Lake, Raced
from training.retraining.upkeep import Upkeep

_LOOK_EVERY_S = 60.0  # for partitions that were added
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # before Kafka is asked again
_MOST_BATCH_BYTES = 128 * 2**20
Say = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """When a batch is whole, and whether to end where the topics end."""

    records: int = 20_000
    seconds: float = 10.0
    once: bool = False


def follow(
    lake: Lake, kafka: KafkaAccess, limits: Limits, accepted: Collection[str] = (), say: Say | None = None
) -> Counts:
    """Collects until SIGTERM or SIGINT, or with `once` until the topics' present ends.

    Raises:
        OffsetsLost: Kafka no longer has what comes next.
        KafkaRefused: with `once`, Kafka does not answer; or it has not the topics, that of dead letters included, or
            does not let this process use them.
        LakeError: a table cannot be read or written.
    """
    say = say or _printed
    counts, upkeep, failures = Counts(), Upkeep(lake), 0
    with _stopped_by_signals() as stopped:
        while not stopped.is_set():
            before = counts.records
            try:
                with _connected(kafka) as broker:
                    broker.partitions([DEAD_LETTERS])  # before the first one is to be buried
                    if _session(broker, Collector(lake, broker.bury, counts), upkeep, limits, accepted, stopped, say):
                        break
            except Raced as why:
                say(f"another process wrote to {lake.uri}, reading it anew ({why})")
            except KafkaRefused as why:
                if limits.once or isinstance(why, (TopicMissing, NotAllowed)):
                    raise
                failures = 0 if counts.records > before else failures
                pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                say(f"{why}; asking again in {pause_s:.0f} s")
                stopped.wait(pause_s)
    say(f"ended: {counts.records} records, {counts.events} events, {counts.groups} groups, {counts.shop} of the shop")
    return counts


def _session(
    broker: Broker, collector: Collector, upkeep: Upkeep, limits: Limits, accepted: Collection[str], stopped: Flag,
    say: Say,
) -> bool:  # fmt: skip
    """Collects with one look at the tables; True: everything that was to be read is."""
    partitions = broker.partitions()
    bounds = broker.bounds(partitions)
    reached = collector.starts(bounds, accepted)
    broker.start(reached)
    looked = time.monotonic()
    while not stopped.is_set():
        records, positions = _batch(broker, limits, reached, {p: b.end for p, b in bounds.items()}, stopped)
        if positions != reached:
            began = time.monotonic()
            collector.add(records, positions)
            reached = positions
            lag = {p: b.end - reached[p] for p, b in broker.bounds(partitions).items()}
            say(_line(len(records), time.monotonic() - began, lag, collector))
            upkeep.after_batch()
        if limits.once and all(reached[p] >= b.end for p, b in bounds.items()):
            upkeep.at_end()
            return True
        if time.monotonic() - looked > _LOOK_EVERY_S:
            if broker.partitions() != partitions:
                return False
            looked = time.monotonic()
    return False


def _batch(
    broker: Broker, limits: Limits, reached: dict[Partition, int], ends: dict[Partition, int], stopped: Flag
) -> tuple[list[Record], dict[Partition, int]]:
    """The next batch, and the offsets behind it."""
    records, size, until = list[Record](), 0, time.monotonic() + limits.seconds
    positions = reached
    while not stopped.is_set() and len(records) < limits.records and size < _MOST_BATCH_BYTES:
        found = broker.read(limits.records - len(records))
        records += found
        size += sum(len(record.value or b"") for record in found)
        positions = broker.positions()
        if limits.once and all(positions[p] >= end for p, end in ends.items()):
            break
        if time.monotonic() > until:
            break
    return records, positions


def replay(lake: Lake, kafka: KafkaAccess, say: Say | None = None) -> Counter[str]:
    """Takes all dead letters again, and says what became of them; returns how many still are dead, by reason."""
    say = say or _printed
    with _connected(kafka) as broker:
        letters = _dead_letters(broker)
        while True:
            counts = Counts()
            try:
                still = Collector(lake, broker.bury, counts).replay([record for record, _ in letters])
                break
            except Raced as why:
                say(f"another process wrote to {lake.uri}, reading it anew ({why})")
    say(f"{len(letters)} dead letters: {counts.events} are events now, {sum(still.values())} are not")
    for reason, count in still.most_common():
        say(f"  {count} times: {reason}")
    return still


def _dead_letters(broker: Broker) -> list[tuple[Record, str]]:
    """Every dead letter that Kafka holds, once, with its reason."""
    bounds = broker.bounds(broker.partitions([DEAD_LETTERS]))
    broker.start({p: b.begin for p, b in bounds.items()})
    found = dict[object, tuple[Record, str]]()
    while any(position < bounds[p].end for p, position in broker.positions().items()):
        for letter in broker.read(10_000):
            record, reason = dead_letter(letter)
            found.setdefault(record.origin, (record, reason))
    return list(found.values())


def _line(records: int, took_s: float, lag: dict[Partition, int], collector: Collector) -> str:
    counts, joined = collector.counts, collector.joined
    oldest = joined.oldest()
    age = f", the oldest for {(datetime.now(UTC) - oldest).total_seconds():.0f} s" if oldest else ""
    behind = " ".join(f"{p.topic.split('.')[1]}/{p.number}:{n}" for p, n in lag.items() if n) or "none"
    return (
        f"{records} records in {took_s:.2f} s, lag {behind}; in all {counts.events} events, {counts.groups} groups, "
        f"{counts.shop} of the shop, "
        f"{counts.repeated} repeated, {sum(counts.dead.values())} dead, {counts.erased} of erased merchants; "
        f"{joined.waiting_picks} picks wait for their group{age}, {joined.waiting_groups} groups for a pick"
    )


@contextmanager
def _connected(kafka: KafkaAccess) -> Iterator[Broker]:
    broker = Broker(kafka)
    try:
        yield broker
    finally:
        with suppress(KafkaRefused):
            broker.close()


@contextmanager
def _stopped_by_signals() -> Iterator[Flag]:
    """A flag that SIGTERM and SIGINT raise; outside the main thread nobody does."""
    flag = Flag()

    def stop(_: int, __: FrameType | None) -> None:
        flag.set()

    before = {}
    with suppress(ValueError):
        before = {which: signal.signal(which, stop) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _printed(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)
