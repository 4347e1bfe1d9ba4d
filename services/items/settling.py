"""What goes on behind the calls: the clock moves presales and orders, and the provider is asked to move money.

Both work from what is stored, so that any replica may do any of it, and a crash anywhere leaves nothing but work to do
again: an operation is stored with its key before the provider is asked, and asked again with the same key until there
is an answer. It knows the order of these steps; presales.py and orders.py know what follows. It knows no SQL, and no
provider's API.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.items import orders, presales
from services.items.metrics import ItemsMetrics
from services.items.orders import Cause, Order
from services.items.payments import Asked, Charge, Operation, Payment, PaymentState
from services.items.ports import Books, Provider, Refused, Sale
from services.items.presales import DAY_US, HOUR_US, Decision, Mode, Presale, State
from services.runtime.errors import RetryableError, Unavailable
from services.runtime.workers import repeat

SECOND_US = 1_000_000
LEASE_US = 60 * SECOND_US  # longer than the provider takes to answer, or not to
KEY_LASTS_US = 23 * HOUR_US  # the provider forgets a key after a day: what it began is then looked for, not begun anew
AUDIT_S = 300.0
BATCH = 200  # orders in one transaction, operations in one turn
GRACE_US = 7 * DAY_US  # for a charge of held money that the provider refuses
_SHORTEST_US, _LONGEST_US = SECOND_US, 60 * SECOND_US  # between two calls of an operation without an answer

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settling:
    """The background of the service, and the first step of an order's payment."""

    books: Books
    provider: Provider
    metrics: ItemsMetrics
    at_once: int = 8  # calls of the provider

    async def run(self, interval_s: float) -> None:
        """The background, until it is cancelled: what is due is done at once, then it pauses."""

        async def until_nothing_is_due() -> None:
            while await self.turn():
                pass
            await self._measure()

        await asyncio.gather(
            repeat(until_nothing_is_due, name="settling", interval_s=interval_s),
            repeat(self.audit, name="audit of the books", interval_s=AUDIT_S),
        )

    async def _measure(self) -> None:
        backlog = await self.books.backlog()
        self.metrics.waiting.set(backlog.waiting)
        self.metrics.oldest_s.set(backlog.oldest_us / SECOND_US)

    async def audit(self) -> None:
        """Looks through all orders and entries, so not at every turn."""
        audit = await self.books.audit()
        self.metrics.stuck.set(audit.stuck)
        self.metrics.unbalanced.set(audit.unbalanced)

    async def turn(self) -> int:
        """Does what is due now; returns how much was done."""
        sales, late = await self.books.due(BATCH)
        done = await self._each(self.advance, sales) + await self._each(self._expire, late)
        return done + await self._each(self._perform, await self.books.claim(BATCH, LEASE_US))

    async def _each(self, work: Callable[[T], Awaitable[None]], on: Sequence[T]) -> int:
        """Some at once; a fault with one holds up no other. Returns how many were done."""

        async def done(one: T) -> bool:
            try:
                await work(one)
                return True
            except RetryableError:
                raise  # the database is away: so it is for the others
            except Exception:
                self.metrics.faults.inc()
                _log.exception("settling of %s failed", one)
                return False

        count = 0
        for begin in range(0, len(on), self.at_once):
            count += sum(await asyncio.gather(*map(done, on[begin : begin + self.at_once])))
        return count

    async def begin(self, order_id: str) -> None:
        """Has the provider asked what is due for one order now; without an answer, the background goes on."""
        for asked in await self.books.claim(1, LEASE_US, order_id=order_id):
            await self._perform(asked)

    async def look(self, payment_id: str) -> None:
        """Something may have happened to a payment."""
        if (order_id := await self.books.order_of_payment(payment_id)) is not None:
            async with self.books.sale_of(order_id) as sale:
                await sale.look(order_id, 0)

    async def advance(self, presale_id: str) -> None:
        """What the clock makes of a presale, and of a batch of its orders."""
        async with self.books.sale(presale_id) as sale:
            sale.work_begins()
            while True:
                counts = await sale.counts()
                active = sum(counts.get(state, 0) for state in orders.ACTIVE)
                shipped = counts.get(orders.State.SHIPPED, 0)
                further = presales.advanced(sale.presale, sale.now_us, shipped=shipped, active=active)
                if further == sale.presale:
                    break
                await sale.change(further, "clock")
            await self._lead_orders(sale)

    async def _lead_orders(self, sale: Sale) -> None:
        """In production, orders are committed or their money captured; in refunding, they are cancelled."""
        if sale.presale.state is State.REFUNDING:
            batch = await sale.orders((orders.State.PENDING, *orders.PAID), BATCH)
            for order in batch:
                await sale.change_order(orders.cancelled(order, _cause(sale.presale)), "clock")
        elif sale.presale.state is State.PRODUCING and sale.presale.mode is Mode.HOLD:
            batch = await sale.uncaptured(BATCH)
            for order in batch:
                await sale.change_order(order, "clock")  # its capture is scheduled
        elif sale.presale.state is State.PRODUCING:
            batch = await sale.orders((orders.State.SECURED,), BATCH)
            for order in batch:
                await sale.change_order(orders.committed(order, sale.presale), "clock")
        else:
            return
        if len(batch) == BATCH:
            sale.work_is_left()

    async def _expire(self, order_id: str) -> None:
        async with self.books.sale_of(order_id) as sale:
            order = orders.overdue(await sale.order(order_id), sale.now_us)
            await sale.change_order(order, "clock")

    async def _perform(self, asked: Asked) -> None:
        """One call of the provider, and what follows from its answer."""
        order = await self.books.read_order(asked.order_id)
        try:
            payment, failure = await self._ask(asked, order)
        except RetryableError as error:
            self.metrics.asked(asked.kind, "unknown")
            _log.warning("%s of order %s has no answer: %s", asked.kind, asked.order_id, error)
            await self.books.postpone(asked, min(_LONGEST_US, _SHORTEST_US << min(asked.calls, 10)))
            return
        self.metrics.asked(asked.kind, "refused" if failure is not None else "done")
        async with self.books.sale_of(asked.order_id) as sale:
            await sale.close_operation(asked, "done" if failure is None else "refused", failure or "")
            order = orders.observed(await sale.order(asked.order_id), sale.presale, payment)
            grace_is_over = sale.now_us >= sale.presale.decided_us + GRACE_US
            if failure is not None and asked.kind is Operation.CAPTURE and grace_is_over:
                order = orders.cancelled(order, Cause.CAPTURE)
            reason = failure or payment.failure
            await sale.change_order(order, "provider", reason, after_us=_pause_us(asked, failure))

    async def _ask(self, asked: Asked, order: Order) -> tuple[Payment, str | None]:
        """The payment as the provider has it then, and why it refused the operation, if it did."""
        try:
            return await self._call(asked, order), None
        except Refused as refused:
            _log.warning("the provider refuses %s of order %s: %s", asked.kind, asked.order_id, refused)
            if not order.payment_id:
                return Payment("", PaymentState.FAILED, failure=str(refused)), str(refused)
            return await self._find(order), str(refused)

    async def _call(self, asked: Asked, order: Order) -> Payment:
        provider = self.provider
        match asked.kind:
            case Operation.START if asked.age_us > KEY_LASTS_US:
                begun = await provider.of_order(order.order_id)
                return begun or Payment("", PaymentState.FAILED, failure="the payment was not begun in time")
            case Operation.START:
                presale = await self.books.read(order.presale_id)
                captures = presale.mode is Mode.CHARGE
                charge = Charge(order.order_id, order.amount, order.currency, order.payment_method, captures)
                return await provider.start(asked.key, charge)
            case Operation.CAPTURE:
                return await provider.capture(asked.key, order.payment_id)
            case Operation.RELEASE:
                return await provider.release(asked.key, order.payment_id)
            case Operation.REFUND:
                return await provider.refund(asked.key, order.payment_id, order.kept)
            case Operation.LOOK:
                return await provider.find(order.payment_id)

    async def _find(self, order: Order) -> Payment:
        try:
            return await self.provider.find(order.payment_id)
        except Refused as refused:
            raise Unavailable(
                "payment provider", f"does not know its payment {order.payment_id}: {refused}"
            ) from refused


def _pause_us(asked: Asked, failure: str | None) -> int:
    """Until a refused operation is tried again, with another key."""
    if failure is None:
        return 0
    return min(DAY_US, HOUR_US << min(asked.attempt - 1, 10))


def _cause(presale: Presale) -> Cause:
    """Why the orders of a presale in REFUNDING are cancelled."""
    if presale.decision is Decision.PRODUCE:
        return Cause.PRODUCTION
    return Cause.THRESHOLD if presale.decided_by == "clock" else Cause.MERCHANT
