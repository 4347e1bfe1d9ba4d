"""A shop's events from a Delta table or Parquet files, each once, as arrays.

    event_id          text, unique; the first of equal ones counts, by create_time
    kind              "impression", "click", "order" or "return"
    item_id           text; an item has one store and one arm
    user_id           text, the merchant whose store it is
    arm               "treatment" or "control": the item's; left out where a file maps items to arms
    surface           text, "search" say; null where there is none
    position          int, on the page, from the top; null where there is none
    create_time       timestamp, UTC
    item_create_time  timestamp, UTC: when the item was first shown
    viewer_hash       text, a pseudonym of who saw it; null where nobody is known
    units             int, of an order or return; null counts as 1

An impression or click that the same viewer made of the same item on the same surface counts only if the last one that
counted is `window_s` or more older: a page that is loaded again is no new impression. Without a viewer_hash every event
counts. Orders and returns are told apart by event_id alone. Here an item has an arm; where viewers have one,
viewer_events.py reads the same tables. Knows tables; no estimators.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contract.errors import reading
from training.data.delta import delta_name, open_delta
from training.measurement.errors import MeasurementError

KINDS = ("impression", "click", "order", "return")
IMPRESSION, CLICK, ORDER, RETURN = range(len(KINDS))
ARMS = ("control", "treatment")
COLUMNS = ("event_id", "kind", "item_id", "user_id", "surface", "position", "create_time", "item_create_time",
           "viewer_hash", "units")  # fmt: skip
_DAY_US = 86_400_000_000


@dataclass(frozen=True, eq=False)
class Events:
    """Events that count, a row an event, in the order of time.

    kind, item, surface   int (N,), surface −1 where there is none
    position              int (N,), −1 where there is none
    age_days              float (N,), of the item
    time_us               int (N,), since 1970
    units                 int (N,)
    items, stores, surfaces   names by number
    store_of, treated_of      of every item
    dropped                   how many events did not count, and why
    """

    kind: np.ndarray
    item: np.ndarray
    surface: np.ndarray
    position: np.ndarray
    age_days: np.ndarray
    time_us: np.ndarray
    units: np.ndarray
    items: list[str]
    stores: list[str]
    surfaces: list[str]
    store_of: np.ndarray
    treated_of: np.ndarray
    dropped: dict[str, int]


@dataclass(frozen=True, eq=False)
class Once:
    """A table's events, each event_id once, in the order of time; `counts` leaves repeated looks out.

    kind, item, surface, viewer   int (N,), surface and viewer −1 where there is none
    time_us                       int (N,), since 1970
    counts                        bool (N,)
    items, surfaces, viewers      names by number
    again                         how many had an event_id that was there
    """

    table: pa.Table
    kind: np.ndarray
    item: np.ndarray
    surface: np.ndarray
    viewer: np.ndarray
    time_us: np.ndarray
    counts: np.ndarray
    items: list[str]
    surfaces: list[str]
    viewers: list[str]
    again: int

    @classmethod
    def of(cls, table: pa.Table, window_s: int) -> "Once":
        """Of a table with the columns event_id, kind, item_id, surface, viewer_hash and create_time."""
        table = table.take(pc.sort_indices(table, sort_keys=[("create_time", "ascending"), ("event_id", "ascending")]))
        event, _ = coded(table, "event_id")
        first = np.zeros(len(event), bool)
        first[np.unique(event, return_index=True)[1]] = True
        table = table.filter(pa.array(first))
        kind, time_us = _kinds(table), _micros(table, "create_time")
        item, items = coded(table, "item_id")
        surface, surfaces = coded(table, "surface")
        viewer, viewers = coded(table, "viewer_hash")
        counts = _counting(np.stack([kind, viewer, item, surface]), time_us, window_s)
        again = int(len(event) - first.sum())
        return cls(table, kind, item, surface, viewer, time_us, counts, items, surfaces, viewers, again)


def read_arms(path: Path, of: str = "item_id") -> dict[str, str]:
    """Item → arm, from JSON ({item_id: arm}) or Parquet (item_id, arm); or `of` another column, viewer_hash.

    Raises:
        MeasurementError: it cannot be read, or names another arm.
    """
    with reading(path, MeasurementError):
        if path.suffix == ".json":
            arms = dict(json.loads(path.read_text("utf-8")))
        else:
            arms = {row[of]: row["arm"] for row in pq.read_table(path, columns=[of, "arm"]).to_pylist()}
        if odd := set(arms.values()) - set(ARMS):
            raise MeasurementError(f"an arm is {' or '.join(ARMS)}, got {min(map(str, odd))!r}")
    return arms


def read_table(path: Path, wanted: Sequence[str], of: str = "items") -> pa.Table:
    """Columns of a Delta table or of Parquet files; `of` says what has an arm.

    Raises:
        MeasurementError: it cannot be read, or lacks a column.
    """
    name = delta_name(path)
    with reading(path, MeasurementError):
        if name is not None:
            dataset = open_delta(name).to_pyarrow_dataset()
            found = dataset.to_table(columns=[n for n in wanted if n in dataset.schema.names])
        else:
            found = pq.read_table(path)
    if missing := [column for column in wanted if column not in found.column_names]:
        remedy = f"; give --arms FILE, which maps {of} to arms" if missing == ["arm"] else ""
        raise MeasurementError(f"{path} lacks the column {', '.join(missing)}{remedy}")
    return found.select(wanted)


def read_events(path: Path, window_s: int, arms: dict[str, str] | None = None, *, others: bool = True) -> Events:
    """All events of a table; without `others`, those of items that are in no arm are left out and counted.

    Raises:
        MeasurementError: a column is missing, or a value that has to be there; an item has two stores or arms.
    """
    return events_of(read_table(path, [*COLUMNS, *([] if arms else ["arm"])]), window_s, arms, others=others)


def events_of(table: pa.Table, window_s: int, arms: dict[str, str] | None = None, *, others: bool = True) -> Events:
    """The events of a table in memory, as `read_events`."""
    check_present(table, ("event_id", "kind", "item_id", "user_id", "create_time", "item_create_time"))
    everything = len(table)
    if not others:
        known = list(arms) if arms is not None else table.filter(pc.is_valid(table["arm"]))["item_id"].unique()
        table = table.filter(pc.is_in(table["item_id"], pa.array(known, pa.string())))
    without_arm = everything - len(table)
    once = Once.of(table, window_s)
    store_of, stores = _of_items(once.table, "user_id", once.item, once.items)
    treated_of = _arms(once.table, once.item, once.items, arms)
    age_days = (once.time_us - _micros(once.table, "item_create_time")) / _DAY_US
    position, units = (_integers(once.table, name, without) for name, without in (("position", -1), ("units", 1)))
    columns = (once.kind, once.item, once.surface, position, age_days, once.time_us, units)
    kept = tuple(column[once.counts] for column in columns)
    dropped = {
        "same_event_id": once.again, "within_window": int((~once.counts).sum()), "without_arm": without_arm
    }  # fmt: skip
    return Events(*kept, once.items, stores, once.surfaces, store_of, treated_of, dropped)  # type: ignore[call-arg]


def check_present(table: pa.Table, columns: Sequence[str]) -> None:
    """Raises MeasurementError where a value that has to be there is null."""
    for column in columns:
        if table.column(column).null_count:
            raise MeasurementError(f"{column} is null in {table.column(column).null_count} events")


def _counting(keys: np.ndarray, time: np.ndarray, window_s: int) -> np.ndarray:
    """Which events count, bool (N,), of keys (kind, viewer, item, surface) int (4, N) in the order of time."""
    kind, viewer = keys[:2]
    counts = np.ones(len(time), bool)
    asked = np.flatnonzero((kind <= CLICK) & (viewer >= 0))
    order = asked[np.lexsort((time[asked], *keys[:, asked]))]
    same = (np.diff(keys[:, order], axis=1) == 0).all(0)
    close = same & (np.diff(time[order]) < window_s * 1_000_000)
    last = -1  # place of the last one that counted, while places follow each other closely
    for place in np.flatnonzero(close) + 1:
        before = int(place) - 1 if counts[order[place - 1]] else last
        if time[order[place]] - time[order[before]] < window_s * 1_000_000:
            counts[order[place]] = False
            last = before
    return counts


def _of_items(table: pa.Table, column: str, item: np.ndarray, items: list[str]) -> tuple[np.ndarray, list[str]]:
    """Each item's one value of a column, as a number, and the names."""
    value, names = coded(table, column)
    of = np.full(len(items), -1)
    of[item] = value
    if (odd := np.flatnonzero(of[item] != value)).size:
        raise MeasurementError(f"item {items[item[odd[0]]]!r} has more than one {column}")
    return of, names


def _arms(table: pa.Table, item: np.ndarray, items: list[str], arms: dict[str, str] | None) -> np.ndarray:
    if arms is None:
        of, names = _of_items(table, "arm", item, items)
        named = [names[n] if n >= 0 else "null" for n in of]
    else:
        named = [arms.get(name, "missing") for name in items]
    for name, arm in zip(items, named, strict=True):
        if arm not in ARMS:
            raise MeasurementError(f"item {name!r}: its arm is {arm}; it must be {' or '.join(ARMS)}")
    return np.array([arm == "treatment" for arm in named], bool)


def _kinds(table: pa.Table) -> np.ndarray:
    value, names = coded(table, "kind")
    if odd := set(names) - set(KINDS):
        raise MeasurementError(f"kind must be one of {', '.join(KINDS)}, got {min(odd)!r}")
    return np.asarray(np.array([KINDS.index(name) for name in names], int)[value])


def coded(table: pa.Table, column: str) -> tuple[np.ndarray, list[str]]:
    """A column of texts as numbers, −1 for null, and the texts."""
    coded: Any = table.column(column).cast(pa.string()).combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    return np.asarray(coded.indices.fill_null(-1)).astype(int), [str(name) for name in coded.dictionary.to_pylist()]


def _micros(table: pa.Table, column: str) -> np.ndarray:
    """A column of timestamps as microseconds since 1970, UTC."""
    times = table.column(column)
    if not pa.types.is_timestamp(times.type):
        raise MeasurementError(f"{column} must be a timestamp, is {times.type}")
    return np.asarray(times.cast(pa.timestamp("us", times.type.tz), safe=False).cast(pa.int64()))


def _integers(table: pa.Table, column: str, without: int) -> np.ndarray:
    return np.asarray(table.column(column).cast(pa.int64()).fill_null(without))
