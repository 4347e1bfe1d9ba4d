"""Presales on a real database, with a clock that moves, a provider that fails, and a process that crashes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.local.payments.bank import Bank, Event, PlannedFaults
from deploy.local.payments.provider import FakeProvider
from services.items import presales
from services.items.adapters.books import DatabaseClock, SqlBooks
from services.items.adapters.rows import order_of
from services.items.adapters.tables import OUTBOX, SCHEMA, ledger, operations, orders
from services.items.metrics import ItemsMetrics
from services.items.orders import COUNTING, Order
from services.items.ports import Groups
from services.items.presales import DAY_US, Presale, State, Terms
from services.items.selling import Selling, Wanted
from services.items.settling import Settling
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox

MERCHANT, BUYER = "merchant", "buyer"
GROUP_ID, IMAGE_ID = "6f1d9b1e-0000-4000-8000-00000000000a", "6f1d9b1e-0000-4000-8000-000000000001"
PRICE = 1999
MINUTE_US = 60_000_000


class Crashed(BaseException):
    """The process is gone; what was committed stays, whatever was asked of the provider was asked."""


class Plan:
    """Crashes at the n-th of the points that a crash can tell apart; never again after that."""

    def __init__(self) -> None:
        self.left = 0
        self.seen = 0

    def step(self) -> None:
        """One such point."""
        self.seen += 1
        if self.left:
            self.left -= 1
            if self.left == 0:
                raise Crashed


class CrashingDatabase(Database):
    """Crashes before a transaction, before its commit, or after it, as `plan` says."""

    plan: Plan

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        self.plan.step()
        async with super().transaction() as connection:
            yield connection
            self.plan.step()
        self.plan.step()


class MovedClock(DatabaseClock):
    """The database's clock, ahead by as much as the test says."""

    ahead_us = 0

    async def now_us(self, connection: AsyncConnection) -> int:
        return await super().now_us(connection) + self.ahead_us


class OneGroup(Groups):
    """The generation service, which knows one group."""

    async def images(self, group_id: str) -> tuple[str, Sequence[str]]:
        return MERCHANT, [IMAGE_ID]

    async def check(self) -> None:
        pass


class Market:
    """The service's logic over one database; `bank` is the provider's side."""

    def __init__(self, url: str, posting: Any = None, hold_days: int = 6) -> None:
        self.plan = Plan()
        self.database = CrashingDatabase(url, SCHEMA, timeout_s=20)
        self.database.plan = self.plan
        self.clock = MovedClock()
        self.faults = PlannedFaults()
        more = {} if posting is None else {"posting": posting}
        self.bank = Bank(self.now_us, faults=self.faults, **more)
        self.provider = FakeProvider(self.bank, pause=self._pause)
        self.books = SqlBooks(self.database, Outbox(self.database, OUTBOX, now_us, Watch(10.0)), self.clock)
        self.settling = Settling(self.books, self.provider, ItemsMetrics(CollectorRegistry()), at_once=1)
        self.selling = Selling(
            self.books, OneGroup(), lambda: str(uuid4()), self.settling.begin, hold_days * DAY_US, 15 * MINUTE_US
        )

    async def _pause(self) -> None:
        self.plan.step()

    def now_us(self) -> int:
        return now_us() + self.clock.ahead_us

    def pass_time(self, microseconds: int) -> None:
        """For the database and for the provider."""
        self.clock.ahead_us += microseconds

    async def on_sale(self, **changes: Any) -> Presale:
        """A sale that is open."""
        presale = await self.selling.create(str(uuid4()), MERCHANT, self.terms(**changes))
        return await self.selling.open(presale.presale_id, MERCHANT, "")

    def terms(self, **changes: Any) -> Terms:
        """Two of three units make it; it closes in an hour, and nobody may decide otherwise."""
        good = Terms(GROUP_ID, IMAGE_ID, "Linen dress", "", "EUR", PRICE, 2, 3, self.now_us() + 60 * MINUTE_US, 30, 0)
        return replace(good, **changes)

    async def order(self, presale: Presale, units: int = 1, method: str = "pm_card_visa", **changes: Any) -> Order:
        """An order, as far as its payment comes at once."""
        wanted = Wanted(str(uuid4()), presale.presale_id, BUYER, units, method)
        return await self.selling.place(replace(wanted, **changes))

    async def settle(self, most: int = 100) -> None:
        """The background works until nothing is due."""
        for _ in range(most):
            if not await self.settling.turn():
                return
        raise AssertionError("the background never comes to its end")

    async def close(self, presale: Presale) -> Presale:
        """Its time is over, and the background has worked."""
        found = await self.books.read(presale.presale_id)
        self.pass_time(max(0, found.terms.close_us - self.now_us()) + 1_000_000)
        await self.settle()
        return await self.books.read(presale.presale_id)

    async def hear(self, posts: Sequence[tuple[bytes, str]]) -> None:
        """The provider's events arrive."""
        for payload, signature in posts:
            payment_id = self.provider.paid(payload, signature)
            if payment_id is not None:
                await self.settling.look(payment_id)

    async def orders_of(self, presale: Presale) -> list[Order]:
        """All of a presale."""
        query = select(orders).where(orders.c.presale_id == presale.presale_id).order_by(orders.c.number)
        async with self.database.transaction() as connection:
            return [order_of(row) for row in await connection.execute(query)]

    async def check(self, presale_id: str) -> None:
        """What holds at every moment, of what is committed."""
        presale = await self.books.read(presale_id)
        found = await self.orders_of(presale)
        by = dict.fromkeys(("pending", "secured"), 0)
        for order in found:
            by["pending"] += order.units if order.state == "pending_payment" else 0
            by["secured"] += order.units if order.state in ("secured", "committed", "shipped") else 0
            assert 0 <= order.refunded <= order.charged <= order.amount, order
            assert order.held in (0, order.amount) and not (order.held and order.charged), order
            assert (order.state == "refunded") == (order.charged > 0 and order.kept == 0), order
            if order.state in ("expired", "released"):
                assert order.charged == order.held == 0, order
            if order.state in ("committed", "shipped"):
                assert order.kept == order.amount, order
        assert (presale.pending_units, presale.secured_units) == (by["pending"], by["secured"])
        assert presale.pending_units + presale.secured_units <= presale.terms.max_units
        for buyer_id in {order.buyer_id for order in found} if presale.terms.max_units_per_buyer else ():
            theirs = [order for order in found if order.buyer_id == buyer_id and order.state in COUNTING]
            assert sum(order.units for order in theirs) <= presale.terms.max_units_per_buyer
        await self._check_ledger(found)

    async def _check_ledger(self, found: Sequence[Order]) -> None:
        ids = [order.order_id for order in found]
        sums = select(ledger.c.order_id, ledger.c.account, func.sum(ledger.c.amount))
        sums = sums.where(ledger.c.order_id.in_(ids)).group_by(ledger.c.order_id, ledger.c.account)
        async with self.database.transaction() as connection:
            rows = (await connection.execute(sums)).all()
        of = {(row[0], row[1]): int(row[2]) for row in rows}
        for order in found:
            entries = {account: of.get((order.order_id, account), 0) for account in _ACCOUNTS}
            assert sum(entries.values()) == 0, entries
            assert entries["provider"] == order.kept and entries["held"] == order.held, (order, entries)
            shipped = order.kept if order.state == "shipped" else 0
            assert entries["merchants"] == -shipped and entries["buyers"] == shipped - order.kept, (order, entries)

    async def check_ended(self, presale_id: str) -> None:
        """What holds of a presale that is over, against the provider's own books, too."""
        presale = await self.books.read(presale_id)
        assert presale.state in presales.OVER, presale
        found = await self.orders_of(presale)
        for order in found:
            assert order.state in ("shipped", "expired", "released", "refunded"), order
            assert (order.state == "shipped") == (order.kept > 0), "shipped xor refunded"
        assert (presale.state is State.SHIPPED) == any(order.state == "shipped" for order in found) or any(
            order.returned for order in found
        )
        theirs = [
            entry for entry in self.bank.books.entries.values() if entry.charge.order_id in {o.order_id for o in found}
        ]
        assert len({entry.charge.order_id for entry in theirs}) == len(theirs), "an order was charged twice"
        for entry in theirs:
            [order] = [order for order in found if order.order_id == entry.charge.order_id]
            payment = entry.payment
            assert (payment.held, payment.charged, payment.refunded) == (order.held, order.charged, order.refunded)
        async with self.database.transaction() as connection:
            waiting = select(func.count()).where(
                operations.c.state == "intended", operations.c.order_id.in_([order.order_id for order in found])
            )
            assert not await connection.scalar(waiting), "the provider is still asked something"


_ACCOUNTS = ("provider", "buyers", "merchants", "held", "holds")


def twice(event: Event) -> Sequence[int]:
    """Each event is posted twice, the second time a minute later."""
    return (0, MINUTE_US)
