"""Events in SQL, from the transaction that stores what they tell of until Kafka has acknowledged them.

Each event has a place in its key's order: a number that the database counts in that transaction, which keeps the key's
row locked until its commit. So numbers rise in the order of commits, whatever the replicas' clocks say. A row that is
gone has been acknowledged. It knows two tables; relay.py knows when and how events are published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
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

from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.runtime.leases import Watch
from services.runtime.tracing import traceparent

_MOST_AT_ONCE = 50  # events that one claim reads


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
        keys = self._keys
        insert = insert_into(connection, keys).values(key=key, last_sequence=1, holder="", beats=0)
        counted = insert.on_conflict_do_update(
            index_elements=["key"], set_={"last_sequence": keys.c.last_sequence + 1}
        ).returning(keys.c.last_sequence)
        sequence: int = (await connection.execute(counted)).scalar_one()
        return sequence

    async def add(self, connection: AsyncConnection, key: str, sequence: int, event_id: str, message: Message) -> None:
        """Stores an event within the transaction that took `sequence` and stores what the event tells of."""
        row = {
            "key": key,
            "sequence": sequence,
            "event_id": event_id,
            "event_type": message.DESCRIPTOR.full_name,
            "value": message.SerializeToString(deterministic=True),
            "traceparent": traceparent() or "",
            "add_time_us": self._clock(),
            "refusal": "",
        }
        await connection.execute(self._events.insert().values(row))

    async def find(self, event_id: str) -> str | None:
        """None when the event is acknowledged, "" when it is owed, else why Kafka never takes it."""
        query = select(self._events.c.refusal).where(self._events.c.event_id == event_id)
        async with self._database.transaction() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def claim(self, key: str, token: str) -> Sequence[Owed]:
        """The key's owed events in their order, now the token's to publish; none while another publishes them."""
        async with self._database.transaction() as connection:
            if not await self._take(connection, key, token):
                return []
            events = self._events
            query = select(events).where(events.c.key == key, events.c.refusal == "").order_by(events.c.sequence)
            owed = [_owed(row) for row in await connection.execute(query.limit(_MOST_AT_ONCE))]
            if not owed:
                await self._give_up(connection, key, token)
            return owed

    async def _take(self, connection: AsyncConnection, key: str, token: str) -> bool:
        keys = self._keys
        mine = {"holder": token, "beats": keys.c.beats + 1}
        free = update(keys).where(keys.c.key == key, keys.c.holder == "").values(mine)
        if (await connection.execute(free)).rowcount == 1:
            return True
        seen = (await connection.execute(select(keys.c.holder, keys.c.beats).where(keys.c.key == key))).one_or_none()
        if seen is None or not self._watch.has_expired(key, tuple(seen)):
            return False
        unchanged = (keys.c.key == key) & (keys.c.holder == seen.holder) & (keys.c.beats == seen.beats)
        return (await connection.execute(update(keys).where(unchanged).values(mine))).rowcount == 1

    async def settle(self, event: Owed, token: str, *, refusal: str = "", release: bool = False) -> bool:
        """Kafka has acknowledged the event, or refuses it for ever. False when another has taken the claim over."""
        events, keys = self._events, self._keys
        this = (events.c.key == event.key) & (events.c.sequence == event.sequence)
        mine = (keys.c.key == event.key) & (keys.c.holder == token)
        beat = {"beats": keys.c.beats + 1} | ({"holder": ""} if release else {})
        async with self._database.transaction() as connection:
            # Whoever holds the claim by now: what Kafka has said stays true.
            await connection.execute(
                update(events).where(this).values(refusal=refusal) if refusal else delete(events).where(this)
            )
            return (await connection.execute(update(keys).where(mine).values(beat))).rowcount == 1

    async def release(self, key: str, token: str) -> None:
        """Gives the claim up, if it is still ours."""
        async with self._database.transaction() as connection:
            await self._give_up(connection, key, token)

    async def _give_up(self, connection: AsyncConnection, key: str, token: str) -> None:
        mine = (self._keys.c.key == key) & (self._keys.c.holder == token)
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
