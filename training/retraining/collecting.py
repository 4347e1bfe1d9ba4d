"""From Kafka to the tables, exactly once: a batch of records becomes events, then groups.

The order of a batch: what is no event goes to the dead letters; events go into LAKE/events with the offsets behind
them, in one commit; what happened in the shop goes into LAKE/shop, with the offsets of that topic; groups and picks
that found each other go into LAKE/groups. A process may end between any two of
these: whoever opens the tables next finds in them how far each step came, and does the rest first. Two writers cannot
both win, since a commit on a snapshot whose offsets another has moved fails; the loser forgets everything and begins
anew. Knows the order of the steps; what they do is in the modules beside it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from deltalake import DeltaTable
from opentelemetry.trace import SpanKind

from contract import tracing
from contract.topics import SHOP, Partition
from training.retraining import offsets, raw, shop_events
from training.retraining.broker import Bounds, partition_of
from training.retraining.erasures import TRANSACTION, erased
from training.retraining.groups import Groups
from training.retraining.incoming import SHOP as OF_SHOP
from training.retraining.incoming import Event, Poison, Record, event_of
from training.retraining.joining import GROUPS_SCHEMA
from training.retraining.lake import EVENTS_SCHEMA, Lake, append, put, reading_files
from training.retraining.seen import Seen
from training.retraining.shop_events import SHOP_SCHEMA

VERSION = "groups"  # carried by LAKE/groups: the version of LAKE/events that it follows from
REPLAYED = "replayed"  # carried by both: how often dead letters became events, and how many of these are derived
_CHUNK = 10_000  # events derived at once when a backlog is made up
Letter = tuple[Record, str]  # what is no event, or fits no group, and why
Bury = Callable[[Sequence[Letter]], None]


@dataclass
class Counts:
    """What became of records, since this process began."""

    records: int = 0
    events: int = 0  # into LAKE/events
    repeated: int = 0  # were there already, by their event_id
    groups: int = 0  # rows into LAKE/groups, corrections too
    shop: int = 0  # rows into LAKE/shop
    dead: Counter[str] = field(default_factory=Counter)  # dead letters, by topic
    erased: int = 0  # of erased merchants, dropped


class Collector:
    """The tables as of one moment, and what is needed to go on from there.

    Every method raises Raced when another process was faster: let go of this object then, and make another.
    """

    def __init__(self, lake: Lake, bury: Bury, counts: Counts) -> None:
        self._bury_all, self.counts = bury, counts
        self.groups = lake.open("groups")
        self.events = lake.open("events")  # after the groups, which then follow from events that are in it
        self.shop = lake.open("shop")
        self._erased = erased(lake)  # after all: it knows every erasure that they have seen
        with reading_files():
            self._known = Seen(raw.column(self.events, "event_id"))
            ends = {p: min(end, _at(self.events, p)) for p, end in raw.ends(self.events).items()}
            derived = {p: min(_at(self.groups, p), end) for p, end in ends.items()}
            behind = {p: at for p, at in derived.items() if at < ends[p]}
            if _at(self.groups, REPLAYED) != _at(self.events, REPLAYED):
                behind = dict.fromkeys(ends, 0)  # dead letters became events at offsets that were passed
            self.joined = Groups(self.events, raw.column(self.groups, "group_id"), behind)
            if behind:
                self._catch_up(behind, derived, ends)

    def starts(self, bounds: Mapping[Partition, Bounds], accepted: Collection[str] = ()) -> dict[Partition, int]:
        """Where reading goes on, in each partition.

        Raises:
            OffsetsLost: Kafka no longer has what comes next.
        """
        of_shop = {p: held for p, held in bounds.items() if p.topic == SHOP}
        others = {p: held for p, held in bounds.items() if p.topic != SHOP}
        found = offsets.starts(self.events.transaction_version, others, accepted)
        return found | offsets.starts(self.shop.transaction_version, of_shop, accepted)

    def add(self, records: Sequence[Record], reached: Mapping[Partition, int]) -> None:
        """Takes the records that lie before the offsets `reached`, and after those that were taken last.

        In the traces of the calls that the records are of.
        """
        came = (tracing.of(record.headers) for record in records)
        told: tracing.Attributes = {"messaging.system": "kafka", "messaging.batch.message_count": len(records)}
        with tracing.entry("collect", came, kind=SpanKind.CONSUMER, attributes=told):
            self._take(records, reached)

    def _take(self, records: Sequence[Record], reached: Mapping[Partition, int]) -> None:
        events, of_shop, letters, dropped = self._events(records)
        self._bury(letters)
        moved = offsets.moved({p: at for p, at in reached.items() if p.topic != SHOP})
        moved_of_shop = offsets.moved({p: at for p, at in reached.items() if p.topic == SHOP})
        with reading_files():
            if events or _moves(self.events, moved):
                self._append(events, moved)
            if of_shop or _moves(self.shop, moved_of_shop):
                self._append_of_shop(of_shop, moved_of_shop)
            self._count(records, letters, dropped)
            self._derive(events, moved)

    def replay(self, records: Sequence[Record]) -> Counter[str]:
        """Takes the records of dead letters, wherever they came from; returns why some are still none.

        No partition's offset moves. What is an event already and fits its group now is derived again.
        """
        events, of_shop, letters, _ = self._events(records)
        still = Counter(why for _, why in letters)
        with reading_files():
            if of_shop:
                self._append_of_shop(of_shop, {})
            if events:
                self._append(events, {REPLAYED: _at(self.events, REPLAYED) + 1})
            touched = set(_groups_of(records))
            again = list(raw.about(self.events, touched)) if touched else []
            unfit = self._derive(again, {}, buries=lambda _: False)
            if events:  # that they are derived
                append(self.groups, [], GROUPS_SCHEMA, self._carried({}))
        return still + Counter(why for _, why in unfit)

    # ---- steps -------------------------------------------------------------------------------

    def _events(self, records: Iterable[Record]) -> tuple[list[Event], list[Event], list[Letter], Counter[str]]:
        """The events that are new, those of the shop apart, what is none, and how many records are neither: erased
        merchants', or repeated."""
        events, letters, dropped = dict[str, Event](), list[Letter](), Counter[str]()
        for record in records:
            if record.key is not None and record.key.decode(errors="replace") in self._erased:
                dropped["erased"] += 1
                continue
            try:
                event = event_of(record)
            except Poison as why:
                letters.append((record, str(why)))
                continue
            dropped["repeated"] += event.event_id in events
            events.setdefault(event.event_id, event)
        of_shop = {event_id: event for event_id, event in events.items() if event.event_type == OF_SHOP}
        others = {event_id: event for event_id, event in events.items() if event.event_type != OF_SHOP}
        with reading_files():
            maybe = [event_id for event_id in others if event_id in self._known]
            again = raw.held(self.events, maybe) if maybe else set[str]()
            again_of_shop = raw.held_of_shop(self.shop, {e: shop_events.time_of(of_shop[e].of_shop) for e in of_shop})
        dropped["repeated"] += len(again) + len(again_of_shop)
        new = [event for event_id, event in others.items() if event_id not in again]
        return new, [event for event_id, event in of_shop.items() if event_id not in again_of_shop], letters, dropped

    def _bury(self, letters: Sequence[Letter]) -> None:
        if letters:
            self._bury_all(letters)

    def _count(self, records: Sequence[Record], letters: Iterable[Letter], dropped: Mapping[str, int]) -> None:
        """Once they are in a commit: where another process was faster, they come again."""
        self.counts.records += len(records)
        self.counts.dead.update(record.origin.topic for record, _ in letters)
        self.counts.repeated += dropped["repeated"]
        self.counts.erased += dropped["erased"]

    def _append(self, events: Sequence[Event], moved: Mapping[str, int]) -> None:
        carried = {**moved, TRANSACTION: self._erased.version}
        with _committing("events", self.events):
            append(self.events, [raw.row_of(event) for event in events], EVENTS_SCHEMA, carried)
        self._known.add(event.event_id for event in events)
        self.counts.events += len(events)

    def _append_of_shop(self, events: Sequence[Event], moved: Mapping[str, int]) -> None:
        carried = {**moved, TRANSACTION: self._erased.version}
        with _committing("shop", self.shop):
            append(self.shop, [shop_events.row_of(event.of_shop) for event in events], SHOP_SCHEMA, carried)
        self.counts.shop += len(events)

    def _derive(
        self, events: Sequence[Event], moved: Mapping[str, int], buries: Callable[[Record], bool] = lambda _: True
    ) -> list[Letter]:
        derived = self.joined.derive(events, self.events, self.groups)
        letters = [(pick.record, why) for pick, why in derived.unfit]
        self._bury(buried := [letter for letter in letters if buries(letter[0])])
        if derived.rows or letters:
            write = put if derived.corrects else append
            with _committing("groups", self.groups):
                write(self.groups, derived.rows, GROUPS_SCHEMA, self._carried(moved))
        self.joined.settled(derived)
        self._count([], buried, Counter())
        self.counts.groups += len(derived.rows)
        return letters

    def _carried(self, moved: Mapping[str, int]) -> dict[str, int]:
        replayed = _at(self.events, REPLAYED)
        return {VERSION: self.events.version(), REPLAYED: replayed, TRANSACTION: self._erased.version, **moved}

    # ---- after an interruption ---------------------------------------------------------------

    def _catch_up(
        self, behind: Mapping[Partition, int], derived: Mapping[Partition, int], ends: Mapping[Partition, int]
    ) -> None:
        """Derives the events from `behind` on; letters from before `derived` are buried already. Both stay as they are
        until all of it is done."""
        carried = {offsets.name_of(p): at for p, at in derived.items()} | {REPLAYED: _at(self.groups, REPLAYED)}

        def is_new(record: Record) -> bool:
            return record.origin.offset >= derived.get(partition_of(record.origin), 0)

        for chunk in _chunks(raw.beyond(self.events, behind)):
            self._derive(chunk, carried, is_new)
        append(self.groups, [], GROUPS_SCHEMA, self._carried(offsets.moved(ends)))


@contextmanager
def _committing(name: str, table: DeltaTable) -> Iterator[None]:
    """The span of a commit; a retraining names the version that it read."""
    with tracing.span(f"commit {name}") as span:
        yield
        span.set_attribute("perfusion.table_version", table.version())


def _at(table: DeltaTable, what: Partition | str) -> int:
    """How far a table has come: the next offset of a partition, or a number that it carries."""
    return table.transaction_version(what if isinstance(what, str) else offsets.name_of(what)) or 0


def _moves(table: DeltaTable, moved: Mapping[str, int]) -> bool:
    """Whether these application transactions are others than the table carries."""
    return any(table.transaction_version(name) != at for name, at in moved.items())


def _groups_of(records: Iterable[Record]) -> Iterator[str]:
    """The groups that records are about, as far as they are groups and picks."""
    for record in records:
        with suppress(Poison):
            if (event := event_of(record)).event_type != OF_SHOP:
                yield event.group_id


def _chunks(events: Iterable[Event]) -> Iterator[list[Event]]:
    each = iter(events)
    while chunk := list(islice(each, _CHUNK)):
        yield chunk
