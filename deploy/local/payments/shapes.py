"""What the bank knows in the shapes of Stripe's API, as far as the services' adapter reads and writes them.

Source: https://docs.stripe.com/api, version 2026-10-28.endive. Amounts are minor units, times whole seconds.
"""

from typing import Any
from urllib.parse import parse_qsl

from deploy.local.payments.books import SECOND_US, Entry, Event, Fault, Post, Refusal
from services.items.payments import PaymentState

Json = dict[str, Any]
_EVENTS = {
    PaymentState.HELD: "payment_intent.amount_capturable_updated",
    PaymentState.CHARGED: "payment_intent.succeeded",
    PaymentState.RELEASED: "payment_intent.canceled",
    PaymentState.FAILED: "payment_intent.payment_failed",
}
FAULTS = {  # those that are answered: status, type, message
    Fault.BUSY: (429, "invalid_request_error", "Too many requests."),
    Fault.IN_PROGRESS: (409, "idempotency_error", "There is another request in progress with this idempotency key."),
    Fault.BROKEN: (500, "api_error", "Something went wrong."),
}


def fields(query: str) -> dict[str, str]:
    """A form or a query; `a[b]` stays one name. A list's items are numbered: `a[0]`, or `a[]` for its only one."""
    return {name.replace("[]", "[0]"): value for name, value in parse_qsl(query, keep_blank_values=True)}


def status(entry: Entry) -> str:
    """A PaymentIntent's."""
    payment = entry.payment
    return {
        PaymentState.PENDING: "requires_action" if payment.action_url else "processing",
        PaymentState.HELD: "requires_capture",
        PaymentState.CHARGED: "succeeded",
        PaymentState.RELEASED: "canceled",
        PaymentState.FAILED: "requires_payment_method",
    }[payment.state]


def intent(entry: Entry, expands_charge: bool = False) -> Json:
    """A PaymentIntent."""
    payment, charge = entry.payment, latest_charge(entry)
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": payment.action_url, "return_url": entry.return_url}}
    return {
        "id": payment.payment_id,
        "object": "payment_intent",
        "amount": entry.charge.amount,
        "amount_capturable": payment.held,
        "amount_received": payment.charged,
        "capture_method": "automatic" if entry.charge.captures else "manual",
        "created": entry.begun_us // SECOND_US,
        "currency": entry.charge.currency.lower(),
        "last_payment_error": card_error(payment.failure) if payment.failure else None,
        "latest_charge": charge if charge is None or expands_charge else charge["id"],
        "livemode": False,
        "metadata": {"order_id": entry.charge.order_id},
        "next_action": action if payment.action_url else None,
        "payment_method": entry.charge.payment_method,
        "status": status(entry),
    }


def latest_charge(entry: Entry) -> Json | None:
    """None before the card's network was asked."""
    payment = entry.payment
    if payment.state is PaymentState.PENDING or (payment.state is PaymentState.RELEASED and not entry.was_held):
        return None
    card: Json = {"brand": "visa"}
    if payment.capture_before_us is not None:
        card["capture_before"] = payment.capture_before_us // SECOND_US
    return {
        "id": payment.payment_id.replace("pi_", "ch_"),
        "object": "charge",
        "amount": entry.charge.amount,
        "amount_captured": payment.charged,
        "amount_refunded": payment.refunded,
        "captured": payment.charged > 0,
        "currency": entry.charge.currency.lower(),
        "failure_message": payment.failure or None,
        "payment_intent": payment.payment_id,
        "payment_method_details": {"type": "card", "card": card},
        "refunded": 0 < payment.charged == payment.refunded,
        "status": "failed" if payment.state is PaymentState.FAILED else "succeeded",
    }


def refund(entry: Entry, amount: int) -> Json:
    """The latest of a payment."""
    return {
        "id": entry.refund_id,
        "object": "refund",
        "amount": amount,
        "charge": entry.payment.payment_id.replace("pi_", "ch_"),
        "currency": entry.charge.currency.lower(),
        "payment_intent": entry.payment.payment_id,
        "status": "succeeded",
    }


def event(post: Post) -> Json:
    """What is posted; a copy of an event has the event's id."""
    kind, about = _kind(post.event), intent(post.event.entry)
    return {
        "id": post.event.event_id,
        "object": "event",
        "created": post.event.at_us // SECOND_US,
        "data": {"object": latest_charge(post.event.entry) if kind == "charge.refunded" else about},
        "livemode": False,
        "type": kind,
    }


def _kind(happened: Event) -> str:
    if happened.kind == "refunded":
        return "charge.refunded"
    if happened.kind == PaymentState.PENDING:
        return f"payment_intent.{status(happened.entry)}"
    return _EVENTS[PaymentState(happened.kind)]


def card_error(message: str, made: Json | None = None) -> Json:
    """Why a card did not pay, with the PaymentIntent that was made."""
    about = {} if made is None else {"payment_intent": made}
    return {"type": "card_error", "code": "card_declined", "message": message, **about}


def refused(refusal: Refusal) -> tuple[int, Json]:
    """Status and body of a request that is refused."""
    error = {"type": "invalid_request_error", "code": refusal.code, "message": refusal.message}
    return 404 if refusal.code == "resource_missing" else 400, {"error": error}
