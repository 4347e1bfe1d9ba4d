"""What merchants and buyers do: each call is one decision under the presale's lock, stored whole or not at all.

Money follows behind the calls (settling.py); the payment of a new order alone is begun at once. It knows no gRPC, SQL
or provider.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.items import orders, presales
from services.items.orders import Encounter, Order, Recipient
from services.items.ports import Books, Groups, Sale
from services.items.presales import DAY_US, Decision, Presale, State, Terms
from services.runtime import callers
from services.runtime.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied

_MOST_ORDERS = 500  # changed in one transaction


@dataclass(frozen=True)
class Wanted:
    """An order as a buyer asks for it."""

    request_id: str
    presale_id: str
    buyer_id: str
    units: int
    payment_method: str
    encounter: Encounter | None = None
    ship_to: Recipient | None = None


@dataclass(frozen=True)
class Selling:
    """The commands. `begin` has the provider asked for an order's payment now, as far as it answers in time."""

    books: Books
    groups: Groups
    new_id: Callable[[], str]
    begin: Callable[[str], Awaitable[object]]
    hold_us: int  # how long money can be held
    pay_within_us: int  # how long units are kept for an order that is not paid

    async def create(self, request_id: str, user_id: str, terms: Terms) -> Presale:
        """A draft of one of the merchant's pictures."""
        await self._check_picture(user_id, terms)
        return await self.books.create(request_id, self.new_id(), user_id, terms)

    async def edit(self, presale_id: str, user_id: str, etag: str, terms: Terms) -> Presale:
        """A draft with other terms."""
        await self._check_picture(user_id, terms)
        async with self.books.sale(presale_id) as sale:
            _check_merchant(sale.presale, user_id)
            _check_etag(sale.presale, etag)
            told = ", ".join(presales.differing(sale.presale.terms, terms))
            await sale.change(presales.edited(sale.presale, terms), "merchant", told)
            return sale.presale

    async def open(self, presale_id: str, user_id: str, etag: str) -> Presale:
        """On sale; one that is already stays as it is."""
        async with self.books.sale(presale_id) as sale:
            _check_merchant(sale.presale, user_id)
            if sale.presale.state is not State.OPEN:
                _check_etag(sale.presale, etag)
                await sale.change(presales.opened(sale.presale, sale.now_us, self.hold_us), "merchant")
            return sale.presale

    async def cancel(self, presale_id: str, user_id: str, etag: str, reason: str) -> Presale:
        """Taken back; one that was already stays as it is."""
        async with self.books.sale(presale_id) as sale:
            _check_merchant(sale.presale, user_id)
            if not _was_cancelled(sale.presale):
                _check_etag(sale.presale, etag)
                await sale.change(presales.cancelled(sale.presale), "merchant", reason)
            return sale.presale

    async def decide(self, presale_id: str, user_id: str, etag: str, decision: Decision, reason: str) -> Presale:
        """Made below its threshold, or refunded at once; the same decision again changes nothing."""
        async with self.books.sale(presale_id) as sale:
            _check_merchant(sale.presale, user_id)
            if (sale.presale.decision, sale.presale.decided_by) != (decision, "merchant"):
                _check_etag(sale.presale, etag)
                made = presales.decided(sale.presale, decision, "merchant", sale.now_us)
                await sale.change(made, "merchant", reason)
            return sale.presale

    async def fail(self, presale_id: str, user_id: str, reason: str) -> Presale:
        """Its production is given up; again, nothing changes."""
        async with self.books.sale(presale_id) as sale:
            _check_merchant(sale.presale, user_id)
            given_up = sale.presale.decision is Decision.PRODUCE and sale.presale.state is not State.PRODUCING
            if not given_up:
                await sale.change(presales.failed(sale.presale), "merchant", reason)
            return sale.presale

    async def delay(
        self, request_id: str, presale_id: str, user_id: str, days: int, reason: str
    ) -> tuple[Presale, int]:
        """Every buyer who waits is asked; how many were."""
        total = 0
        while True:
            async with self.books.sale(presale_id) as sale:
                _check_merchant(sale.presale, user_id)
                known = await sale.delay_of(request_id)
                if known is not None:
                    if known[:2] != (days, reason):
                        raise AlreadyExists("request_id: was used before for another delay")
                    return sale.presale, known[2]
                if sale.presale.state is not State.PRODUCING:
                    raise FailedPrecondition("presale_id: only a production can be delayed", field="presale_id")
                waiting = await sale.unasked(_MOST_ORDERS)
                for order in waiting:
                    await sale.change_order(orders.delayed(order, days, reason), "merchant", reason)
                total += len(waiting)
                if len(waiting) < _MOST_ORDERS:
                    await sale.note_delay(request_id, days, reason, total)
                    return sale.presale, total

    async def ship(self, order_id: str, user_id: str, tracking: str) -> Order:
        """On its way; again with the same number, nothing changes."""
        async with self.books.sale_of(order_id) as sale:
            _check_merchant(sale.presale, user_id)
            order = await sale.order(order_id)
            if order.state is orders.State.SHIPPED and order.tracking == tracking:
                return order
            return await sale.change_order(orders.shipped(order, tracking, sale.now_us), "merchant")

    async def place(self, wanted: Wanted) -> Order:
        """The order, its payment begun; a repeat finds it, and pays no second time."""
        placed = await self.books.placed(wanted.request_id)
        if placed is None:
            placed = await self._place(wanted)
        callers.require(placed.user_id, "presale_id")
        _check_same(placed, wanted, (await self.books.recipients([placed.order_id])).get(placed.order_id))
        await self.begin(placed.order_id)
        return await self.books.read_order(placed.order_id)

    async def _place(self, wanted: Wanted) -> Order:
        async with self.books.sale(wanted.presale_id) as sale:
            if (placed := await sale.placed(wanted.request_id)) is not None:  # meanwhile
                return placed
            callers.require(sale.presale.user_id, "presale_id")
            bought = await sale.bought(wanted.buyer_id) if sale.presale.terms.max_units_per_buyer else 0
            presales.check_sells(sale.presale, wanted.units, bought, sale.now_us)
            return await sale.place(wanted.request_id, self._order(sale, wanted), wanted.ship_to)

    def _order(self, sale: Sale, wanted: Wanted) -> Order:
        terms, now_us = sale.presale.terms, sale.now_us
        return Order(
            order_id=self.new_id(),
            presale_id=sale.presale.presale_id,
            user_id=sale.presale.user_id,
            buyer_id=wanted.buyer_id,
            units=wanted.units,
            amount=terms.price * wanted.units,
            currency=terms.currency,
            payment_method=wanted.payment_method,
            pay_by_us=now_us + self.pay_within_us,
            ships_by_us=now_us + terms.ships_within_days * DAY_US,
            create_us=now_us,
            update_us=now_us,
            encounter=wanted.encounter,
        )

    async def cancel_order(self, order_id: str, buyer_id: str) -> Order:
        """On its way back, or given back; one that is already stays as it is."""
        async with self.books.sale_of(order_id) as sale:
            order = _of_buyer(await sale.order(order_id), buyer_id)
            cancelled = orders.cancelled_by_buyer(order, sale.now_us)
            return order if cancelled == order else await sale.change_order(cancelled, "buyer")

    async def answer_delay(self, order_id: str, buyer_id: str, consents: bool) -> Order:
        """The new date, or the way back."""
        async with self.books.sale_of(order_id) as sale:
            order = _of_buyer(await sale.order(order_id), buyer_id)
            return await sale.change_order(orders.answered(order, consents), "buyer")

    async def read(self, presale_id: str, may_see_draft: Callable[[str], bool]) -> Presale:
        """A presale; a draft is not there for others than its merchant."""
        presale = await self.books.read(presale_id)
        if not presale.open_us and not may_see_draft(presale.user_id):
            raise NotFound(f"presale_id: there is no presale {presale_id}", field="presale_id")
        return presale

    async def read_order(self, order_id: str, buyer_id: str) -> Order:
        """A buyer's order."""
        return _of_buyer(await self.books.read_order(order_id), buyer_id)

    async def read_own(self, presale_id: str, user_id: str) -> Presale:
        """A presale of the merchant's."""
        presale = await self.books.read(presale_id)
        _check_merchant(presale, user_id)
        return presale

    async def _check_picture(self, user_id: str, terms: Terms) -> None:
        owner, image_ids = await self.groups.images(terms.group_id)
        if owner != user_id:
            raise PermissionDenied("terms.group_id: the group is another merchant's", field="terms.group_id")
        if terms.image_id not in image_ids:
            raise NotFound("terms.image_id: the group has no such picture", field="terms.image_id")


def _check_merchant(presale: Presale, user_id: str) -> None:
    if presale.user_id != user_id:
        raise PermissionDenied("presale_id: the presale is another merchant's", field="presale_id")


def _check_etag(presale: Presale, etag: str) -> None:
    if etag and etag != str(presale.version):
        raise FailedPrecondition(f"etag: the presale has changed since; it is {presale.version} now", field="etag")


def _was_cancelled(presale: Presale) -> bool:
    """By its merchant, before it was decided."""
    ended = presale.state in (State.CANCELLED, State.REFUNDING, State.REFUNDED)
    return ended and presale.decision is Decision.NONE


def _of_buyer(order: Order, buyer_id: str) -> Order:
    callers.require(order.user_id, "order_id")
    if order.buyer_id != buyer_id:
        raise PermissionDenied("order_id: the order is another buyer's", field="order_id")
    return order


def _check_same(order: Order, wanted: Wanted, ship_to: Recipient | None) -> None:
    """Raises AlreadyExists for another order; whom the first one was sent to may be erased already."""
    stored = replace(
        wanted,
        presale_id=order.presale_id,
        buyer_id=order.buyer_id,
        units=order.units,
        payment_method=order.payment_method,
        encounter=order.encounter,
        ship_to=ship_to or wanted.ship_to,
    )
    if stored != wanted:
        raise AlreadyExists("request_id: was used before for another order")
