"""Presales, orders and money in SQL: reading, making, and claiming what is due. A sale is changed in sales.py."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, Table, delete, exists, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.items import messages
from services.items.adapters.rows import asked_of, change_of, order_of, presale_of, presale_values, terms_value
from services.items.adapters.sales import SqlSale, counts_of, here_of, no_order
from services.items.adapters.tables import changes, ledger, operations, orders, presales, recipients
from services.items.orders import ACTIVE, OVER, Order, Recipient
from services.items.orders import State as OrderState
from services.items.payments import Asked, Operation
from services.items.ports import Audit, Backlog, Books, Change, Item, Listed, Sale
from services.items.presales import Presale, State, Terms
from services.runtime.database import Database
from services.runtime.errors import AlreadyExists, NotFound
from services.runtime.outbox import Outbox
from services.runtime.pages import Page


class DatabaseClock:
    """The time by the database, which all replicas have in common. Microseconds since 1970 UTC."""

    async def now_us(self, connection: AsyncConnection) -> int:
        """Now, also inside a transaction that has waited."""
        if connection.dialect.name == "sqlite":
            said = await connection.scalar(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"))
            return round(datetime.fromisoformat(str(said)).replace(tzinfo=UTC).timestamp() * 1_000_000)
        return int(await connection.scalar(text("SELECT extract(epoch FROM clock_timestamp()) * 1000000")) or 0)


class SqlBooks(Books):
    """Books in one database; `outbox` is of the same."""

    def __init__(self, database: Database, outbox: Outbox, clock: DatabaseClock) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock

    async def create(self, request_id: str, presale_id: str, user_id: str, terms: Terms) -> Presale:
        async with self._database.writing() as connection:
            number = await self._outbox.next_sequence(connection, user_id)  # the first statement: it locks
            now_us = await self._clock.now_us(connection)
            row = (await connection.execute(select(presales).where(presales.c.request_id == request_id))).one_or_none()
            if row is not None:
                if row.user_id != user_id or row.asked != terms_value(terms):
                    raise AlreadyExists("request_id: was used before for another presale")
                return presale_of(row)
            presale = Presale(presale_id, user_id, terms, now_us, now_us, number)
            values = presale_values(presale) | {"request_id": request_id, "asked": terms_value(terms), "due_us": None}
            await connection.execute(insert(presales).values(values))
            sale = SqlSale(connection, self._outbox, presale, now_us)
            await sale.note("", "merchant", "", State.DRAFT, "")
            event = messages.presale_event(presale, None, "merchant", "", now_us)
            await self._outbox.add(connection, user_id, number, str(uuid4()), event)
            return presale

    @asynccontextmanager
    async def sale(self, presale_id: str) -> AsyncIterator[Sale]:
        async with self._database.writing() as connection:
            here = presales.c.presale_id == presale_id
            if connection.dialect.name == "sqlite":  # which locks by writing
                await connection.execute(update(presales).where(here).values(version=presales.c.version))
            row = (await connection.execute(select(presales).where(here).with_for_update())).one_or_none()
            if row is None:
                raise no_presale(presale_id)
            sale = SqlSale(connection, self._outbox, presale_of(row), await self._clock.now_us(connection), row.due_us)
            yield sale
            await sale.store()

    @asynccontextmanager
    async def sale_of(self, order_id: str) -> AsyncIterator[Sale]:
        async with self.sale((await self.read_order(order_id)).presale_id) as sale:
            yield sale

    async def placed(self, request_id: str) -> Order | None:
        row = await self._one(select(orders).where(orders.c.request_id == request_id))
        return None if row is None else order_of(row)

    async def read(self, presale_id: str) -> Presale:
        row = await self._one(select(presales).where(presales.c.presale_id == presale_id))
        if row is None:
            raise no_presale(presale_id)
        return presale_of(row)

    async def read_order(self, order_id: str) -> Order:
        row = await self._one(select(orders).where(orders.c.order_id == order_id))
        if row is None:
            raise no_order(order_id)
        return order_of(row)

    async def recipients(self, order_ids: Collection[str]) -> Mapping[str, Recipient]:
        query = select(recipients).where(recipients.c.order_id.in_(order_ids))
        async with self._database.transaction() as connection:
            return {
                row.order_id: Recipient(row.name, row.address, row.email) for row in await connection.execute(query)
            }

    async def forget_recipients(self, after_us: int) -> int:
        async with self._database.writing(new=False) as connection:
            if connection.dialect.name == "sqlite":  # else what is deleted stays in the file until it is written over
                await connection.exec_driver_sql("PRAGMA secure_delete=ON")
            before_us = await self._clock.now_us(connection) - after_us
            o = orders.c
            has_ended = o.state.in_(OVER) & (o.update_us < before_us)
            is_kept = (o.state == OrderState.SHIPPED) & (o.return_by_us < before_us)
            old = exists().where(o.order_id == recipients.c.order_id, has_ended | is_kept)
            return (await connection.execute(delete(recipients).where(old))).rowcount

    async def order_of_payment(self, payment_id: str) -> str | None:
        row = await self._one(select(orders.c.order_id).where(orders.c.payment_id == payment_id).limit(1))
        return None if row is None else str(row.order_id)

    async def _one(self, query: Select[Any]) -> Any:
        async with self._database.transaction() as connection:
            return (await connection.execute(query)).one_or_none()

    async def claim(self, most: int, lease_us: int, *, order_id: str = "") -> Sequence[Asked]:
        o = operations.c
        async with self._database.writing(new=False) as connection:
            now_us = await self._clock.now_us(connection)
            ready = o.due_us <= now_us
            if order_id:
                ready = (o.order_id == order_id) & (ready | ((o.calls == 0) & (o.state == "intended")))
            query = select(o.order_id, o.kind, o.attempt).where(ready)
            query = query.order_by(o.due_us).limit(most).with_for_update(skip_locked=True)
            claimed = []
            for row in (await connection.execute(query)).all():
                here = (o.order_id == row.order_id) & (o.kind == row.kind) & (o.attempt == row.attempt)
                taken = update(operations).where(here, ready)
                taken = taken.values(
                    calls=o.calls + 1, due_us=now_us + lease_us, first_us=func.coalesce(o.first_us, now_us)
                )
                found = (await connection.execute(taken.returning(operations))).one_or_none()
                if found is not None:
                    claimed.append(asked_of(found, now_us))
            return claimed

    async def postpone(self, asked: Asked, after_us: int) -> None:
        async with self._database.writing(new=False) as connection:
            now_us = await self._clock.now_us(connection)
            still = here_of(asked) & (operations.c.state == "intended") & (operations.c.calls == asked.calls)
            await connection.execute(update(operations).where(still).values(due_us=now_us + after_us))

    async def due(self, most: int) -> tuple[Sequence[str], Sequence[str]]:
        async with self._database.transaction() as connection:
            now_us = await self._clock.now_us(connection)
            sales = select(presales.c.presale_id).where(presales.c.due_us <= now_us).order_by(presales.c.due_us)
            late = select(orders.c.order_id).where(orders.c.due_us <= now_us).order_by(orders.c.due_us)
            return (
                (await connection.execute(sales.limit(most))).scalars().all(),
                (await connection.execute(late.limit(most))).scalars().all(),
            )

    async def backlog(self) -> Backlog:
        due = operations.c.due_us
        async with self._database.transaction() as connection:
            now_us = await self._clock.now_us(connection)
            asked = select(func.count(), func.min(due)).where(due.is_not(None))  # those without an answer, by the index
            waiting, due_us = (await connection.execute(asked)).one()
        return Backlog(waiting, max(0, now_us - due_us) if due_us else 0)

    async def audit(self) -> Audit:
        entries = ledger.c
        sums = select(entries.currency).group_by(entries.currency).having(func.sum(entries.amount) != 0)
        async with self._database.transaction() as connection:
            return Audit(await stuck_in(connection), len((await connection.execute(sums)).all()))

    async def counts(self, presale_id: str) -> tuple[Mapping[OrderState, int], int]:
        async with self._database.transaction() as connection:
            return await counts_of(connection, presale_id), await stuck_in(connection, presale_id)

    async def presales(self, user_id: str, page: Page, states: Collection[State]) -> Listed[Presale]:
        theirs = presales.c.user_id == user_id
        which = theirs & presales.c.state.in_(states) if states else theirs
        return await self._page(presales, which, page, presale_of)

    async def orders(self, presale_id: str, page: Page) -> Listed[Order]:
        return await self._page(orders, orders.c.presale_id == presale_id, page, order_of)

    async def changes(self, presale_id: str, page: Page) -> Listed[Change]:
        return await self._page(changes, changes.c.presale_id == presale_id, page, change_of)

    async def _page(self, table: Table, which: Any, page: Page, read: Callable[[Any], Item]) -> Listed[Item]:
        query = select(table).where(which)
        if page.after is not None:
            query = query.where(table.c.number < page.after)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query.order_by(table.c.number.desc()).limit(page.size + 1))).all()
        shown = rows[: page.size]
        return Listed([read(row) for row in shown], shown[-1].number if len(rows) > page.size else None)


async def stuck_in(connection: AsyncConnection, presale_id: str = "") -> int:
    """Orders whose money the provider has refused to move, and which wait for it."""
    o = operations.c
    refused = exists().where(o.order_id == orders.c.order_id, o.state == "refused", o.kind != Operation.START)
    query = select(func.count()).where(orders.c.state.in_(ACTIVE), refused)
    if presale_id:
        query = query.where(orders.c.presale_id == presale_id)
    return int(await connection.scalar(query) or 0)


def no_presale(presale_id: str) -> NotFound:
    return NotFound(f"presale_id: there is no presale {presale_id}", field="presale_id")
