"""An order's life: its states, who may change them, and which movement of money comes next.

    PENDING_PAYMENT → SECURED → COMMITTED → SHIPPED
           ├→ EXPIRED     └──────┬──┴───────────┘ (returned)
           └──────────→ CANCELLING → RELEASED | REFUNDED

An order is cancelled at once, its money follows: `next_operation` says what the provider is asked next, and `observed`
what follows from its answer. An answer is the whole payment, so the same one again, or an older one, changes nothing.
It knows no database, provider or clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from services.items.payments import ENDED, Operation, Payment, PaymentState
from services.items.presales import DAY_US, Mode, Presale
from services.items.presales import State as Sale
from services.runtime.errors import FailedPrecondition

RETURN_DAYS = 14  # after an order was shipped


class State(StrEnum):
    """Where an order stands; the API says what each means."""

    PENDING = "pending_payment"
    SECURED = "secured"
    COMMITTED = "committed"
    SHIPPED = "shipped"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    RELEASED = "released"
    REFUNDED = "refunded"


class Cause(StrEnum):
    """Why an order ended or is ending."""

    NONE = ""
    BUYER = "buyer"
    MERCHANT = "merchant"
    THRESHOLD = "threshold"
    PAYMENT = "payment"  # not paid in time, or declined
    CAPTURE = "capture"  # the money that was held could not be charged, or went back without us
    DELAY = "delay"
    PRODUCTION = "production"
    RETURN = "return"


PAID = (State.SECURED, State.COMMITTED)  # and not yet shipped
ACTIVE = (State.PENDING, *PAID, State.CANCELLING)  # has not ended
COUNTING = (State.PENDING, *PAID, State.SHIPPED)  # whose units are somebody's
MADE = (State.COMMITTED, State.SHIPPED)  # whose merchant needs to know whom it is sent to
OVER = (State.EXPIRED, State.RELEASED, State.REFUNDED)
_RANK = {PaymentState.PENDING: 1, PaymentState.HELD: 2}  # the others are last


@dataclass(frozen=True)
class Encounter:
    """Where the buyer met the item, for the shop's figures."""

    surface: str
    position: int
    viewer_hash: str
    arm: str


@dataclass(frozen=True, repr=False)
class Recipient:
    """Whom an order is sent to. It is no part of the order, so that no event, log or figure has it."""

    name: str
    address: str
    email: str


@dataclass(frozen=True)
class Order:
    """An order, and its payment as the provider told it last. Amounts are minor units, times microseconds UTC."""

    order_id: str
    presale_id: str
    user_id: str  # the item's merchant
    buyer_id: str
    units: int
    amount: int
    currency: str
    payment_method: str
    pay_by_us: int
    ships_by_us: int
    create_us: int
    update_us: int
    number: int = 0  # its place among its merchant's
    state: State = State.PENDING
    cause: Cause = Cause.NONE
    payment_id: str = ""
    payment_state: str = ""  # PaymentState; "" until the provider has answered
    held: int = 0
    charged: int = 0
    refunded: int = 0
    capture_before_us: int = 0
    action_url: str = ""
    failure: str = ""
    delayed_to_us: int = 0
    delay_reason: str = ""
    tracking: str = ""
    return_by_us: int = 0
    returned: bool = False
    encounter: Encounter | None = None

    @property
    def kept(self) -> int:
        """Money that was charged and not refunded."""
        return self.charged - self.refunded


def pending_units(order: Order) -> int:
    """What the order counts for in Presale.pending_units."""
    return order.units if order.state is State.PENDING else 0


def secured_units(order: Order) -> int:
    """What the order counts for in Presale.secured_units."""
    return order.units if order.state in (*PAID, State.SHIPPED) else 0


def cancelled(order: Order, cause: Cause) -> Order:
    """On its way back, from any state but shipped; one that is, or has ended, stays as it is."""
    if order.state not in (State.PENDING, *PAID):
        return order
    return replace(order, state=State.CANCELLING, cause=cause, action_url="", delayed_to_us=0)


def cancelled_by_buyer(order: Order, now_us: int) -> Order:
    """Cancelled, or given back within the days for it; raises FailedPrecondition later."""
    if order.state is not State.SHIPPED:
        return cancelled(order, Cause.BUYER)
    if now_us >= order.return_by_us:
        raise FailedPrecondition("order_id: the time for returns is over", field="order_id")
    return replace(order, state=State.CANCELLING, cause=Cause.RETURN, returned=True)


def shipped(order: Order, tracking: str, now_us: int) -> Order:
    """On its way; raises FailedPrecondition unless its item was made for it, and its money is there."""
    if order.state is not State.COMMITTED:
        raise FailedPrecondition(f"order_id: what is {order.state.upper()} cannot be shipped", field="order_id")
    return replace(
        order, state=State.SHIPPED, tracking=tracking, return_by_us=now_us + RETURN_DAYS * DAY_US, delayed_to_us=0
    )


def delayed(order: Order, days: int, reason: str) -> Order:
    """Waits for its buyer's consent to a later date."""
    return replace(order, delayed_to_us=order.ships_by_us + days * DAY_US, delay_reason=reason)


def answered(order: Order, consents: bool) -> Order:
    """The buyer's answer to a delay; raises FailedPrecondition where nothing was asked."""
    if order.delayed_to_us == 0:
        raise FailedPrecondition("order_id: no delay waits for an answer", field="order_id")
    if not consents:
        return cancelled(order, Cause.DELAY)
    return replace(order, ships_by_us=order.delayed_to_us, delayed_to_us=0)


def overdue(order: Order, now_us: int) -> Order:
    """As the clock makes it: not paid in time, or without its buyer's consent to a delay."""
    if order.state is State.PENDING and now_us >= order.pay_by_us:
        return cancelled(order, Cause.PAYMENT)
    if order.state in PAID and order.delayed_to_us and now_us >= order.ships_by_us:
        return cancelled(order, Cause.DELAY)
    return order


def next_look_us(order: Order) -> int | None:
    """When `overdue` may say something new."""
    if order.state is State.PENDING:
        return order.pay_by_us
    return order.ships_by_us if order.state in PAID and order.delayed_to_us else None


def committed(order: Order, presale: Presale) -> Order:
    """Made for its buyer, once the sale is in production and the money is charged."""
    if order.state is State.SECURED and presale.state is Sale.PRODUCING and order.charged >= order.amount:
        return replace(order, state=State.COMMITTED)
    return order


def next_operation(order: Order, presale: Presale, *, asked: bool) -> Operation | None:
    """What the provider is asked next; None where it is nobody's turn, or the buyer's.

    Args:
        asked: whether the provider may know of the payment: it was asked to start it, whatever it answered.
    """
    if order.state is State.PENDING:
        return None if order.payment_state else Operation.START
    if order.state is State.SECURED and presale.mode is Mode.HOLD and presale.state is Sale.PRODUCING:
        return None if order.charged >= order.amount else Operation.CAPTURE
    if order.state is not State.CANCELLING:
        return None
    if not order.payment_state:
        return Operation.START if asked else None  # what came of it must be known before it can be undone
    if order.kept > 0:
        return Operation.REFUND
    return None if order.charged or order.payment_state in ENDED else Operation.RELEASE


def observed(order: Order, presale: Presale, payment: Payment) -> Order:
    """The order after the provider's word on its payment; an older word than the last changes nothing."""
    told = _told(order, payment)
    if told.state is State.PENDING and told.payment_state != PaymentState.PENDING:
        if told.payment_state in ENDED:
            return replace(told, state=State.EXPIRED, cause=Cause.PAYMENT, action_url="")
        told = replace(told, state=State.SECURED, action_url="")
    if told.state in PAID and (told.payment_state in ENDED or told.refunded):
        told = cancelled(told, Cause.CAPTURE)  # the hold ran out, or somebody gave the money back at the provider
    if told.state in OVER and (told.kept or told.held):
        told = replace(told, state=State.CANCELLING)  # it was paid when nobody expected it any more
    return committed(told, presale)


def _told(order: Order, payment: Payment) -> Order:
    rank = _RANK.get(payment.state, 3)
    known = _RANK.get(PaymentState(order.payment_state), 3) if order.payment_state else 0
    revived = order.payment_state == PaymentState.FAILED and payment.state not in ENDED
    if payment.charged < order.charged or payment.refunded < order.refunded or (rank < known and not revived):
        return order
    if order.payment_state == PaymentState.CHARGED and payment.state in ENDED:
        return order
    return replace(
        order,
        payment_id=payment.payment_id,
        payment_state=payment.state.value,
        held=payment.held,
        charged=payment.charged,
        refunded=payment.refunded,
        capture_before_us=payment.capture_before_us or 0,
        action_url=payment.action_url,
        failure=payment.failure,
    )


def ended(order: Order, *, asked: bool) -> Order:
    """An order on its way back whose money has all come back, or was never taken."""
    if order.state is not State.CANCELLING:
        return order
    if order.charged:
        return replace(order, state=State.REFUNDED) if order.kept == 0 else order
    if order.payment_state in ENDED or not (order.payment_state or asked):
        return replace(order, state=State.EXPIRED if order.cause is Cause.PAYMENT else State.RELEASED)
    return order
