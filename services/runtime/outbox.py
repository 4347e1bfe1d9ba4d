"""Events in SQL, from the transaction that stores what they tell of until Kafka has acknowledged them.

Each event has a place in its key's order: a number that the database counts in that transaction, which keeps the key's
row locked until its commit. So numbers rise in the order of commits, whatever the replicas' clocks say. A row that is
gone has been acknowledged. It knows two tables; relay.py knows when and how events are published.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.tracing import traceparent
from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.runtime.leases import Watch

_MOST_AT_ONCE = 500  # events that one claim reads, or one of each key


@dataclass(frozen=True)
class OutboxTables:
    """The two tables of one service's outbox."""

    keys: Table
    events: Table

    def owes(self, key: ColumnElement[str], sequence: ColumnElement[int]) -> ColumnElement[bool]:
        """An SQL condition: the event at this place of the key's order is not acknowledged."""
        return exists().where(self.events.c.key == key, self.events.c.sequence == sequence)


def outbox_tables(metadata: MetaData, name: str) -> OutboxTables:
    """`NAME_outbox_keys` and `NAME_outbox`: services may share a database."""
    keys = Table(
        f"{name}_outbox_keys",
        metadata,
        Column("key", String(128), primary_key=True),  # Kafka's key, a merchant
        Column("last_sequence", BigInteger, nullable=False),  # the place given last; the first is 1
        # The claim of who publishes the key's events: a token, "" for nobody, and a count that moves while it works.
        Column("holder", String(36), nullable=False),
        Column("beats", BigInteger, nullable=False),
    )
    events = Table(
        f"{name}_outbox",
        metadata,
        Column("key", String(128), primary_key=True),
        Column("sequence", BigInteger, primary_key=True),
        Column("event_id", String(36), nullable=False, unique=True),
        Column("event_type", String(255), nullable=False),  # the message's full name
        Column("value", LargeBinary, nullable=False),  # the message, serialized once: sent again, it is the same bytes
        Column("traceparent", String(55), nullable=False),  # of the call that stored it; "" for none
        Column("add_time_us", BigInteger, nullable=False),  # microseconds since 1970 UTC, for the metric of age alone
        Column("refusal", Text, nullable=False),  # why Kafka never takes it; "" for an event that is owed
    )
    return OutboxTables(keys, events)


@dataclass(frozen=True)
class Owed:
    """An event that Kafka has not acknowledged."""

    key: str
    sequence: int
    event_id: str
    event_type: str
    value: bytes
    traceparent: str | None


@dataclass(frozen=True)
class Backlog:
    """What is not acknowledged."""

    owed: int
    oldest_us: int | None  # when the oldest of them was stored
    refused: int


class Outbox:
    """The events of one service. Kafka's key orders them; a key is claimed while its events are published."""

    def __init__(self, database: Database, tables: OutboxTables, clock: Clock, watch: Watch) -> None:
        self._database = database
        self._keys, self._events = tables.keys, tables.events
        self._clock = clock
        self._watch = watch

    async def next_sequence(self, connection: AsyncConnection, key: str) -> int:
        """The key's next place, within the caller's transaction; the key's next one waits for the transaction's end."""
        return (await self.next_sequences(connection, {key: 1}))[key]

    async def next_sequences(self, connection: AsyncConnection, counts: Mapping[str, int]) -> dict[str, int]:
        """The first of so many places in a row of each key, as `next_sequence` gives one."""
        keys = self._keys
        insert = insert_into(connection, keys)
        counted = insert.on_conflict_do_update(
            index_elements=["key"], set_={"last_sequence": keys.c.last_sequence + insert.excluded.last_sequence}
        ).returning(keys.c.key, keys.c.last_sequence)
        # All who lock rows of several keys do so in the keys' order: none waits for one who waits for it.
        rows = [{"key": key, "last_sequence": counts[key], "holder": "", "beats": 0} for key in sorted(counts)]
        given = (await connection.execute(counted, rows)).all()
        return {row.key: row.last_sequence - counts[row.key] + 1 for row in given}

    async def add(self, connection: AsyncConnection, key: str, sequence: int, event_id: str, message: Message) -> None:
        """Stores an event within the transaction that took `sequence` and stores what the event tells of."""
        await self.add_all(connection, [self.owed(key, sequence, event_id, message, traceparent())])

    def owed(self, key: str, sequence: int, event_id: str, message: Message, trace: str | None) -> "Owed":
        """An event as it is stored; `trace` is the traceparent of its call."""
        value = message.SerializeToString(deterministic=True)
        return Owed(key, sequence, event_id, message.DESCRIPTOR.full_name, value, trace)

    async def add_all(self, connection: AsyncConnection, events: Sequence["Owed"]) -> None:
        """Stores events as `add` does."""
        now_us = self._clock()
        rows = [
            {
                "key": event.key,
                "sequence": event.sequence,
                "event_id": event.event_id,
                "event_type": event.event_type,
                "value": event.value,
                "traceparent": event.traceparent or "",
                "add_time_us": now_us,
                "refusal": "",
            }
            for event in events
        ]
        if rows:
            await connection.execute(self._events.insert(), rows)

    async def find(self, event_ids: Collection[str]) -> dict[str, str]:
        """Of these events those that are not acknowledged: "" when one is owed, else why Kafka never takes it."""
        events = self._events
        query = select(events.c.event_id, events.c.refusal).where(events.c.event_id.in_(event_ids))
        async with self._database.transaction() as connection:
            return {row.event_id: row.refusal for row in await connection.execute(query)}

    async def claim(self, keys: Collection[str], token: str) -> Sequence[Owed]:
        """Owed events of these keys, each key's in their order, now the token's to publish.

        There are none of a key that another publishes or that owes nothing, and it is not claimed.
        """
        async with self._database.writing(new=False) as connection:
            taken = await self._take(connection, keys, token)
            if not taken:
                return []
            events = self._events
            nth = func.row_number().over(partition_by=events.c.key, order_by=events.c.sequence).label("nth")
            numbered = select(events, nth).where(events.c.key.in_(taken), events.c.refusal == "").subquery()
            query = select(numbered).where(numbered.c.nth <= max(1, _MOST_AT_ONCE // len(taken)))
            owed = [_owed(row) for row in await connection.execute(query.order_by(numbered.c.key, numbered.c.nth))]
            await self._give_up(connection, taken - {event.key for event in owed}, token)
            return owed

    async def _take(self, connection: AsyncConnection, wanted: Collection[str], token: str) -> set[str]:
        keys = self._keys
        mine = {"holder": token, "beats": keys.c.beats + 1}
        free = update(keys).where(keys.c.key.in_(self._locked(wanted)), keys.c.holder == "").values(mine)
        taken = set((await connection.execute(free.returning(keys.c.key))).scalars())
        held = select(keys.c.key, keys.c.holder, keys.c.beats).where(keys.c.key.in_(set(wanted) - taken))
        for seen in (await connection.execute(held)).all() if len(taken) < len(wanted) else ():
            if self._watch.has_expired(seen.key, seen.holder, seen.beats):
                unchanged = (keys.c.key == seen.key) & (keys.c.holder == seen.holder) & (keys.c.beats == seen.beats)
                if (await connection.execute(update(keys).where(unchanged).values(mine))).rowcount == 1:
                    taken.add(seen.key)
        return taken

    def _locked(self, wanted: Collection[str]) -> Select[tuple[str]]:
        """Locks these keys' rows in the keys' order, where the database locks rows."""
        keys = self._keys
        return select(keys.c.key).where(keys.c.key.in_(wanted)).order_by(keys.c.key).with_for_update()

    async def settle(
        self, token: str, acknowledged: Collection[str], refusals: Mapping[str, str], keys: Collection[str]
    ) -> None:
        """Kafka has acknowledged events, by their ids, and refuses others for ever; the keys' claims are given up."""
        events = self._events
        async with self._database.writing(new=False) as connection:
            # Whoever holds the claims by now: what Kafka has said stays true.
            await connection.execute(delete(events).where(events.c.event_id.in_(acknowledged)))
            for event_id, refusal in refusals.items():
                await connection.execute(update(events).where(events.c.event_id == event_id).values(refusal=refusal))
            await self._give_up(connection, keys, token)

    async def _give_up(self, connection: AsyncConnection, keys: Collection[str], token: str) -> None:
        if keys:
            mine = self._keys.c.key.in_(self._locked(keys)) & (self._keys.c.holder == token)
            await connection.execute(update(self._keys).where(mine).values(holder=""))

    async def waiting(self, after: str, most: int) -> Sequence[str]:
        """Keys with owed events that come after a key in the database's own order; "" begins at the first."""
        events = self._events
        query = select(events.c.key).where(events.c.refusal == "", events.c.key > after).distinct()
        async with self._database.transaction() as connection:
            keys = (await connection.execute(query.order_by(events.c.key).limit(most))).scalars().all()
        return list(keys)

    async def backlog(self) -> Backlog:
        """How much is owed, for how long, and how much is refused."""
        events = self._events
        is_owed = events.c.refusal == ""
        count = select(
            func.count().filter(is_owed), func.min(events.c.add_time_us).filter(is_owed), func.count().filter(~is_owed)
        ).select_from(events)
        async with self._database.transaction() as connection:
            owed, oldest_us, refused = (await connection.execute(count)).one()
        if owed == 0:
            self._watch.keep(())
        return Backlog(owed, oldest_us, refused)


def _owed(row: Any) -> Owed:
    return Owed(row.key, row.sequence, row.event_id, row.event_type, row.value, row.traceparent or None)
