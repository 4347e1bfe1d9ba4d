"""Events as rows of LAKE/events, and back.

Knows the table's columns; nothing about Kafka.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from contract.topics import Partition
from training.retraining.incoming import GROUP, Event, Origin, Record, restored

_TIME = pa.timestamp("us", tz="UTC")
_APART = timedelta(hours=1)  # times that are further apart may be in files that have none between
_MOST_SPANS = 100  # more make one question too long: the last one is wider then
_PLACE = ["cluster_id", "topic", "topic_id", "partition", "offset"]
_COLUMNS = [*_PLACE, "event_id", "event_type", "user_id", "group_id", "event_time", "value"]


def row_of(event: Event) -> dict[str, Any]:
    """An event as it is kept."""
    origin = event.record.origin
    return {
        "cluster_id": origin.cluster_id, "topic": origin.topic, "topic_id": origin.topic_id,
        "partition": origin.partition, "offset": origin.offset, "event_id": event.event_id,
        "event_type": event.event_type, "user_id": event.user_id, "group_id": event.group_id,
        "event_time": event.event_time, "value": event.record.value,
    }  # fmt: skip


def column(table: DeltaTable, name: str) -> Iterator[str]:
    """One column of all rows."""
    for batch in table.to_pyarrow_dataset().to_batches(columns=[name]):
        yield from batch.column(0).to_pylist()


def ids(table: DeltaTable, offsets: Mapping[Partition, int]) -> Iterator[tuple[str, str, bool]]:
    """Of all rows: event_type, group_id, and whether they lie at or beyond these offsets."""
    for batch in table.to_pyarrow_dataset().to_batches(columns=[*_PLACE, "event_type", "group_id"]):
        columns = (batch["event_type"], batch["group_id"], _beyond(batch, offsets))
        yield from zip(*(column.to_pylist() for column in columns), strict=True)


def generated(table: DeltaTable) -> Iterator[tuple[str, datetime]]:
    """Of all groups' events: group_id, and when it was sent."""
    for batch in table.to_pyarrow_dataset().to_batches(columns=["event_type", "group_id", "event_time"]):
        found = batch.filter(pc.equal(batch["event_type"], GROUP))
        yield from zip(found["group_id"].to_pylist(), found["event_time"].to_pylist(), strict=True)


def ends(table: DeltaTable) -> dict[Partition, int]:
    """Of each partition that rows are from, the offset behind the last."""
    found = dict[Partition, int]()
    names = _PLACE[:-1]
    for batch in table.to_pyarrow_dataset().to_batches(columns=_PLACE):
        grouped = pa.table(batch).group_by(names).aggregate([("offset", "max")])
        for row in grouped.to_pylist():
            partition = Partition(*(row[name] for name in names))
            found[partition] = max(found.get(partition, 0), row["offset_max"] + 1)
    return found


def held(table: DeltaTable, event_ids: Collection[str]) -> set[str]:
    """Which of these events are in the table."""
    wanted = set(event_ids)
    return {event_id for event_id in column(table, "event_id") if event_id in wanted}


def held_of_shop(table: DeltaTable, times: Mapping[str, datetime]) -> set[str]:
    """Which of these events, each with its own time, are in LAKE/shop.

    An event that comes again says the same time again, so only files are read that have rows of such a time.
    """
    if not times:
        return set()
    wanted, where = pa.array(sorted(times), pa.string()), ds.scalar(False)
    for first, last in _spans(sorted(times.values())):
        time = ds.field("create_time")
        where |= (time >= pa.scalar(first, _TIME)) & (time <= pa.scalar(last, _TIME))
    found = set[str]()
    for batch in table.to_pyarrow_dataset().to_batches(columns=["event_id"], filter=where):
        found.update(batch["event_id"].filter(pc.is_in(batch["event_id"], wanted)).to_pylist())
    return found


def _spans(times: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The first and last of times that follow each other closely; a second wider, since a table's log rounds times."""
    spans = [[times[0], times[0]]]
    for time in times[1:]:
        if time - spans[-1][1] > _APART and len(spans) < _MOST_SPANS:
            spans.append([time, time])
        else:
            spans[-1][1] = time
    second = timedelta(seconds=1)
    return [(first - second, last + second) for first, last in spans]


def sequences(groups: DeltaTable, group_ids: Collection[str]) -> dict[str, int]:
    """Of these rows of LAKE/groups, the counting pick's sequence by group_id."""
    wanted = pa.array(sorted(group_ids), pa.string())
    found = dict[str, int]()
    for batch in groups.to_pyarrow_dataset().to_batches(columns=["group_id", "sequence"]):
        rows = batch.filter(pc.is_in(batch["group_id"], wanted))
        found |= zip(rows["group_id"].to_pylist(), rows["sequence"].to_pylist(), strict=True)
    return found


def about(table: DeltaTable, group_ids: Collection[str], event_type: str | None = None) -> Iterator[Event]:
    """The events about these groups, of one type or of both."""
    wanted = pa.array(sorted(group_ids), pa.string())

    def chosen(batch: pa.RecordBatch) -> pa.Array:
        of_groups = pc.is_in(batch["group_id"], wanted)
        return pc.and_(of_groups, pc.equal(batch["event_type"], event_type)) if event_type else of_groups

    yield from _matching(table, chosen)


def beyond(table: DeltaTable, offsets: Mapping[Partition, int]) -> Iterator[Event]:
    """The events at or beyond these offsets."""
    lowest = ds.field("offset") >= min(offsets.values(), default=0)
    yield from _matching(table, lambda batch: _beyond(batch, offsets), lowest)


def _beyond(batch: pa.RecordBatch, offsets: Mapping[Partition, int]) -> pa.Array:
    found = pa.array(np.zeros(len(batch), bool))
    for p, offset in offsets.items():
        of = pc.and_(pc.equal(batch["topic_id"], p.topic_id), pc.equal(batch["cluster_id"], p.cluster_id))
        there = pc.and_(pc.equal(batch["partition"], p.number), pc.greater_equal(batch["offset"], offset))
        found = pc.or_(found, pc.and_(of, there))
    return found


def _matching(
    table: DeltaTable, chosen: Callable[[pa.RecordBatch], pa.Array], where: ds.Expression | None = None
) -> Iterator[Event]:
    """The events that are chosen. Arrow cannot compare texts before they are read, in files that deltalake rewrote."""
    for batch in table.to_pyarrow_dataset().to_batches(columns=_COLUMNS, filter=where):
        yield from map(_event, batch.filter(chosen(batch)).to_pylist())


def _event(row: dict[str, Any]) -> Event:
    origin = Origin(*(row[name] for name in _PLACE))
    record = Record(origin, row["user_id"].encode(), row["value"], ())
    return restored(record, row["event_id"], row["event_time"])
