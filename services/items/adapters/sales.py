"""One presale under the lock of its row: what changes, and all that follows from it, in one transaction.

It does not know which changes are allowed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.items import messages, shop
from services.items.adapters.rows import order_of, order_values, presale_values
from services.items.adapters.tables import changes, delays, ledger, operations, orders, presales, recipients
from services.items.ledger import entries_of
from services.items.orders import (
    ACTIVE,
    COUNTING,
    PAID,
    Order,
    Recipient,
    ended,
    next_look_us,
    next_operation,
    pending_units,
    secured_units,
)
from services.items.orders import State as OrderState
from services.items.payments import Asked, Operation, PaymentState
from services.items.ports import Sale
from services.items.presales import ENDING, Presale, State
from services.runtime.database import insert_into
from services.runtime.errors import AlreadyExists, NotFound
from services.runtime.outbox import Outbox

_HEAD_START_US = {Operation.START: 5_000_000}  # of the call that places an order, before the background asks
_LOOK_US = 2_000_000  # until the provider is first asked how a payment that it had not decided on stands
_LATEST_LOOK_US = 3_600_000_000  # between two such looks


class SqlSale(Sale):
    """A presale in a transaction that holds its row."""

    def __init__(
        self, connection: AsyncConnection, outbox: Outbox, presale: Presale, now_us: int, due_us: int | None = None
    ) -> None:
        self.presale = presale
        self.now_us = now_us
        self._connection = connection
        self._outbox = outbox
        self._stored = presale
        self._due_us = due_us

    async def change(self, presale: Presale, actor: str, reason: str = "") -> None:
        before, self.presale = self.presale, replace(presale, version=presale.version + 1, update_us=self.now_us)
        if presale.state is not before.state:
            self._due_us = self.now_us  # its orders follow
        if presale.state is not before.state or presale.terms != before.terms:
            await self.note("", actor, before.state, presale.state, reason)
        await self._tell(messages.presale_event(self.presale, before, actor, reason, self.now_us))

    async def place(self, request_id: str, order: Order, ship_to: Recipient | None = None) -> Order:
        order = replace(order, number=await self._outbox.next_sequence(self._connection, order.user_id))
        await self._connection.execute(
            insert(orders).values(order_values(order) | {"request_id": request_id, "due_us": next_look_us(order)})
        )
        if ship_to is not None:
            await self._connection.execute(insert(recipients).values(asdict(ship_to) | {"order_id": order.order_id}))
        await self._follow(None, order, "buyer", "", order.number)
        await self._schedule(order, (), 0)
        return order

    async def placed(self, request_id: str) -> Order | None:
        found = select(orders).where(orders.c.request_id == request_id)
        row = (await self._connection.execute(found)).one_or_none()
        return None if row is None else order_of(row)

    async def bought(self, buyer_id: str) -> int:
        theirs = (orders.c.presale_id == self.presale.presale_id) & (orders.c.buyer_id == buyer_id)
        query = select(func.sum(orders.c.units)).where(theirs, orders.c.state.in_(COUNTING))
        return int(await self._connection.scalar(query) or 0)

    async def order(self, order_id: str) -> Order:
        here = (orders.c.order_id == order_id) & (orders.c.presale_id == self.presale.presale_id)
        row = (await self._connection.execute(select(orders).where(here))).one_or_none()
        if row is None:
            raise no_order(order_id)
        return order_of(row)

    async def orders(self, states: Collection[OrderState], most: int) -> Sequence[Order]:
        return await self._orders(orders.c.state.in_(states), most)

    async def uncaptured(self, most: int) -> Sequence[Order]:
        o = operations.c
        asked = exists().where(o.order_id == orders.c.order_id, o.kind == Operation.CAPTURE)
        return await self._orders((orders.c.state == OrderState.SECURED) & ~asked, most)

    async def unasked(self, most: int) -> Sequence[Order]:
        return await self._orders(orders.c.state.in_(PAID) & (orders.c.delayed_to_us == 0), most)

    async def _orders(self, which: Any, most: int) -> Sequence[Order]:
        query = select(orders).where(orders.c.presale_id == self.presale.presale_id, which)
        return [order_of(row) for row in await self._connection.execute(query.order_by(orders.c.number).limit(most))]

    async def counts(self) -> Mapping[OrderState, int]:
        return await counts_of(self._connection, self.presale.presale_id)

    async def change_order(self, order: Order, actor: str, reason: str = "", *, after_us: int = 0) -> Order:
        before = await self.order(order.order_id)
        known = await self._operations(order)
        order = ended(order, asked=any(row.kind == Operation.START and row.calls > 0 for row in known))
        if order != before:
            order = replace(order, update_us=self.now_us)
            values = order_values(order) | {"due_us": next_look_us(order)}
            await self._connection.execute(update(orders).where(orders.c.order_id == order.order_id).values(values))
        await self._follow(before, order, actor, reason or order.cause)
        await self._schedule(order, known, after_us)
        return order

    async def _follow(self, before: Order | None, order: Order, actor: str, reason: str, number: int = 0) -> None:
        """Counts, entries and events that follow from an order's change."""
        self.presale = replace(
            self.presale,
            pending_units=self.presale.pending_units + pending_units(order) - (pending_units(before) if before else 0),
            secured_units=self.presale.secured_units + secured_units(order) - (secured_units(before) if before else 0),
        )
        await self._enter(before, order)
        is_new = before is None or order.state is not before.state
        if is_new:
            if order.state not in ACTIVE:
                self._due_us = self.now_us  # it may have been the last
            await self.note(order.order_id, actor, before.state if before else "", order.state, reason)
        if is_new or (before and _dates(order) != _dates(before)):
            await self._tell(messages.order_event(order, self.presale, before, actor, reason, self.now_us), number)
        if (met := shop.event_of(before, order, self.presale, self.now_us)) is not None:
            await self._tell(met, event_id=met.event_id)

    async def _enter(self, before: Order | None, order: Order) -> None:
        rows = [
            {
                "order_id": order.order_id,
                "movement": entry.movement,
                "account": entry.account,
                "currency": order.currency,
                "amount": entry.amount,
                "time_us": self.now_us,
            }
            for entry in entries_of(before, order)
        ]
        if rows:
            await self._connection.execute(insert(ledger), rows)

    async def _operations(self, order: Order) -> Sequence[Any]:
        """What the provider was asked for an order; a start that nobody has asked for yet is dropped with the order."""
        here = operations.c.order_id == order.order_id
        if order.state is not OrderState.PENDING:
            unasked = here & (operations.c.kind == Operation.START) & (operations.c.calls == 0)
            unasked &= operations.c.state == "intended"
            await self._connection.execute(update(operations).where(unasked).values(state="dropped", due_us=None))
        return (await self._connection.execute(select(operations).where(here))).all()

    async def _schedule(self, order: Order, known: Sequence[Any], after_us: int) -> None:
        """What the provider is asked next."""
        asked = any(row.kind == Operation.START and row.calls > 0 for row in known)
        wanted = next_operation(order, self.presale, asked=asked)
        if wanted and not any(row.kind == wanted and row.state == "intended" for row in known):
            attempt = 1 + sum(row.kind == wanted for row in known)
            values = {
                "order_id": order.order_id,
                "kind": wanted,
                "attempt": attempt,
                "key": f"{order.order_id}:{wanted}:{attempt}",
                "state": "intended",
                "calls": 0,
                "due_us": self.now_us + (after_us if attempt > 1 else _HEAD_START_US.get(wanted, 0)),
                "failure": "",
            }
            await self._connection.execute(insert(operations).values(values))
        if order.state in ACTIVE and order.payment_state == PaymentState.PENDING:
            waited_us = self.now_us - order.create_us
            await self.look(order.order_id, min(max(_LOOK_US, waited_us // 4), _LATEST_LOOK_US))
        elif order.state not in ACTIVE:  # nobody need look later; a look that is due now has been asked for
            later = (operations.c.kind == Operation.LOOK) & (operations.c.due_us > self.now_us)
            here = operations.c.order_id == order.order_id
            await self._connection.execute(update(operations).where(here, later).values(state="done", due_us=None))

    async def look(self, order_id: str, after_us: int) -> None:
        row = {
            "order_id": order_id,
            "kind": Operation.LOOK,
            "attempt": 1,
            "key": f"{order_id}:{Operation.LOOK}:1",
            "state": "intended",
            "calls": 0,
            "due_us": self.now_us + after_us,
            "failure": "",
        }
        new = insert_into(self._connection, operations).values(row)
        due = operations.c.due_us
        sooner = (operations.c.state != "intended") | (due > new.excluded.due_us)
        again = {"due_us": new.excluded.due_us, "state": "intended", "calls": 0}
        keys = ["order_id", "kind", "attempt"]
        await self._connection.execute(new.on_conflict_do_update(index_elements=keys, set_=again, where=sooner))

    async def close_operation(self, asked: Asked, state: str, failure: str = "") -> None:
        still = here_of(asked) & (operations.c.state == "intended") & (operations.c.calls == asked.calls)
        closed = update(operations).where(still).values(state=state, due_us=None, failure=failure)
        await self._connection.execute(closed)

    async def delay_of(self, request_id: str) -> tuple[int, str, int] | None:
        query = select(delays).where(delays.c.request_id == request_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            return None
        if row.presale_id != self.presale.presale_id:
            raise AlreadyExists("request_id: was used before for another presale")
        return row.days, row.reason, row.orders_asked

    async def note_delay(self, request_id: str, days: int, reason: str, orders_asked: int) -> None:
        values = {
            "request_id": request_id,
            "presale_id": self.presale.presale_id,
            "days": days,
            "reason": reason,
            "orders_asked": orders_asked,
        }
        await self._connection.execute(insert(delays).values(values))
        await self.note("", "merchant", self.presale.state, self.presale.state, reason)

    def work_begins(self) -> None:
        self._due_us = None

    def work_is_left(self) -> None:
        self._due_us = self.now_us

    async def note(self, order_id: str, actor: str, before: str, after: str, reason: str) -> None:
        """A line in the record of changes."""
        values = {
            "presale_id": self.presale.presale_id,
            "order_id": order_id,
            "actor": actor,
            "from_state": before,
            "to_state": after,
            "reason": reason,
            "time_us": self.now_us,
        }
        await self._connection.execute(insert(changes).values(values))

    async def _tell(self, event: Message, number: int = 0, event_id: str = "") -> None:
        user_id = self.presale.user_id
        number = number or await self._outbox.next_sequence(self._connection, user_id)
        await self._outbox.add(self._connection, user_id, number, event_id or str(uuid4()), event)

    async def store(self) -> None:
        """The presale as it is at the end of the transaction."""
        here = presales.c.presale_id == self.presale.presale_id
        values = presale_values(self.presale) | {"due_us": self._next_due_us()}
        await self._connection.execute(update(presales).where(here).values(values))

    def _next_due_us(self) -> int | None:
        presale, now_us = self.presale, self.now_us
        if presale.state is State.OPEN:
            return presale.terms.close_us
        if presale.state is State.CLOSING:
            return now_us if presale.pending_units == 0 else None  # an order that is paid or expires calls again
        if presale.state is State.SETTLING:
            is_clear = presale.secured_units == 0 or presale.secured_units >= presale.terms.min_units
            return now_us if is_clear else presale.decide_by_us
        if presale.state in ENDING:
            return self._due_us
        return None


async def counts_of(connection: AsyncConnection, presale_id: str) -> dict[OrderState, int]:
    """A presale's orders by state."""
    query = select(orders.c.state, func.count()).where(orders.c.presale_id == presale_id).group_by(orders.c.state)
    return {OrderState(state): count for state, count in (await connection.execute(query)).all()}


def here_of(asked: Asked) -> Any:
    """An SQL condition: the row of an operation."""
    o = operations.c
    return (o.order_id == asked.order_id) & (o.kind == asked.kind) & (o.attempt == asked.attempt)


def no_order(order_id: str) -> NotFound:
    """The error for an order that there is not."""
    return NotFound(f"order_id: there is no order {order_id}", field="order_id")


def _dates(order: Order) -> tuple[int, int]:
    return order.ships_by_us, order.delayed_to_us
