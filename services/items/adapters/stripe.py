"""The provider of payments over Stripe's API, by Stripe's own library.

A payment is a PaymentIntent that is confirmed as it is made; what it says of money is what Stripe says. It keeps
nothing: a payment is found again by its id, and what is asked twice is told from its key. It never tries again by
itself: whoever asks knows whether that is still wanted.

What comes of a call, by Stripe's answer:

    no answer, 5xx, 429, or 409 (its key is in use)   Unavailable: nobody knows, or not yet
    401, 403: our key is not good (any more)          Unavailable: nothing is decided about the payment
    400, its key came before with other parameters    Unavailable: the first request with it may have been done
    402: the card is declined                         a payment that FAILED; Refused where none was made
    other 4xx                                         Refused
"""

import asyncio
import json
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

import stripe
from stripe.params import PaymentIntentCreateParams

from services.items.payments import ENDED, Charge, Payment, PaymentState
from services.items.ports import Provider, Refused
from services.runtime.errors import PermissionDenied, Unavailable

NAME = "payment provider"  # in errors, health and metrics
TOLERANCE_S = 300  # how old an event's signature may be: one that somebody has recorded is not played again later
# Their minor units at Stripe are not those of ISO 4217: an amount would be a hundred times too small.
_OTHER_UNITS = ("ISK", "UGX")
_STATES = {
    "requires_payment_method": PaymentState.PENDING,  # FAILED where it says why
    "requires_confirmation": PaymentState.PENDING,
    "requires_action": PaymentState.PENDING,
    "processing": PaymentState.PENDING,
    "requires_capture": PaymentState.HELD,
    "succeeded": PaymentState.CHARGED,
    "canceled": PaymentState.RELEASED,
}
_T = TypeVar("_T")

_log = logging.getLogger(__name__)
logging.getLogger("stripe").setLevel(logging.WARNING)  # below that, it tells what a call and its answer hold


class StripeProvider(Provider):
    """Args:
    key: the secret key of the merchant's account, or a restricted one that may write PaymentIntents and refunds.
    webhook_secret: by which events that are posted to us are signed.
    url: where the API is, without a path; None is Stripe's own.
    return_url: where a buyer comes back to who had to act at the bank; "/" and the order_id are added. None for
        buyers who cannot be sent there: such a payment stays PENDING and has no action_url.
    timeout_s: of a whole call, seconds.
    """

    def __init__(
        self, key: str, webhook_secret: str, *, url: str | None = None, return_url: str | None = None, timeout_s: float
    ) -> None:
        stripe.enable_telemetry = False  # of the process: it writes a name for this machine into the home folder
        self._webhook_secret = webhook_secret
        self._return_url = return_url
        self._timeout_s = timeout_s
        self._http = stripe.HTTPXClient(timeout=timeout_s)
        self._client = stripe.StripeClient(
            key,
            base_addresses={"api": url} if url else None,
            http_client=self._http,
            max_network_retries=0,
        )

    async def start(self, key: str, charge: Charge) -> Payment:
        if charge.currency in _OTHER_UNITS:
            raise Refused(f"payments in {charge.currency} are not taken")
        params: PaymentIntentCreateParams = {
            "amount": charge.amount,
            "currency": charge.currency.lower(),
            "payment_method": charge.payment_method,
            "allowed_payment_method_types": ["card"],  # what can be held
            "capture_method": "automatic" if charge.captures else "manual",
            "confirm": True,
            "metadata": {"order_id": charge.order_id},
            "expand": ["latest_charge"],
        }
        if self._return_url is not None:
            params["return_url"] = f"{self._return_url.rstrip('/')}/{charge.order_id}"
        try:
            made = await self._answer(
                self._client.v1.payment_intents.create_async(params, {"idempotency_key": key}), declines=True
            )
        except stripe.CardError as error:
            return _declined(error)
        return await self._now(made)

    async def capture(self, key: str, payment_id: str) -> Payment:
        return await self._now(
            await self._answer(
                self._client.v1.payment_intents.capture_async(
                    payment_id, {"expand": ["latest_charge"]}, {"idempotency_key": key}
                )
            )
        )

    async def release(self, key: str, payment_id: str) -> Payment:
        return await self._now(
            await self._answer(
                self._client.v1.payment_intents.cancel_async(
                    payment_id, {"expand": ["latest_charge"]}, {"idempotency_key": key}
                )
            )
        )

    async def refund(self, key: str, payment_id: str, amount: int) -> Payment:
        await self._answer(
            self._client.v1.refunds.create_async(
                {"payment_intent": payment_id, "amount": amount}, {"idempotency_key": key}
            )
        )
        return await self.find(payment_id)

    async def find(self, payment_id: str) -> Payment:
        return _payment(
            await self._answer(
                self._client.v1.payment_intents.retrieve_async(payment_id, {"expand": ["latest_charge"]})
            )
        )

    async def of_order(self, order_id: str) -> Payment | None:
        found = await self._answer(
            self._client.v1.payment_intents.search_async(
                {"query": f"metadata['order_id']:'{order_id}'", "expand": ["data.latest_charge"], "limit": 2}
            )
        )
        payments = [_payment(intent) for intent in found.data]
        if len(payments) > 1:
            _log.error("order %s has more than one payment", order_id)
        return next((each for each in payments if each.state not in ENDED), payments[0] if payments else None)

    def paid(self, payload: bytes, signature: str) -> str | None:
        try:
            stripe.WebhookSignature.verify_header(payload, signature, self._webhook_secret, TOLERANCE_S)
        except (stripe.SignatureVerificationError, UnicodeDecodeError) as error:
            raise PermissionDenied("the event is not signed by the payment provider", field="signature") from error
        try:
            about = json.loads(payload)["data"]["object"]
            named = about["id"] if about["object"] == "payment_intent" else about["payment_intent"]
        except (ValueError, KeyError, TypeError):  # an event of another kind
            return None
        return named if isinstance(named, str) else None

    async def check(self) -> None:
        await self._answer(self._client.v1.payment_intents.list_async({"limit": 1}))

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _now(self, intent: stripe.PaymentIntent) -> Payment:
        """The payment as it is; an answer to a key that was used before says how it was."""
        payment, answer = _payment(intent), intent.last_response
        if answer is not None and answer.headers.get("idempotent-replayed") == "true":
            return await self.find(payment.payment_id)
        return payment

    async def _answer(self, call: Awaitable[_T], *, declines: bool = False) -> _T:
        """What Stripe answers, or what its error means; a declined card is CardError where the caller asks for it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except stripe.CardError as error:
            if declines:
                raise
            raise Refused(_words(error)) from error
        except stripe.InvalidRequestError as error:
            raise Refused(_words(error)) from error
        except stripe.IdempotencyError as error:
            _log.error("a key of a payment came before with other parameters")
            raise Unavailable(NAME, "has another request under this key") from error
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise Unavailable(NAME, "does not take our key") from error
        except stripe.StripeError as error:
            status = error.http_status
            if status is not None and 400 <= status < 500 and status not in (408, 409, 425, 429) and _is_stripes(error):
                raise Refused(_words(error)) from error
            raise Unavailable(NAME, "does not answer" if status is None else f"answers {status}") from error
        except TimeoutError as error:
            raise Unavailable(NAME) from error


def _words(error: stripe.StripeError) -> str:
    return error.user_message or "the payment provider refuses it"


def _is_stripes(error: stripe.StripeError) -> bool:
    """Whether Stripe says it, not something between us and it."""
    return isinstance(error.json_body, dict) and isinstance(error.json_body.get("error"), dict)


def _declined(error: stripe.CardError) -> Payment:
    """The payment that was made and then declined."""
    body = error.json_body if isinstance(error.json_body, dict) else {}
    made = body.get("error", {}).get("payment_intent")
    if made is None:
        raise Refused(_words(error)) from error
    return replace(_read(made), failure=_words(error))


def _payment(intent: stripe.PaymentIntent) -> Payment:
    """A PaymentIntent, with its latest charge, in our words; Unavailable where it is none."""
    if not isinstance(intent, stripe.StripeObject):
        raise Unavailable(NAME, "answers what is not a payment")
    return _read(intent.to_dict())


def _read(intent: dict[str, Any]) -> Payment:
    try:
        status, charge = intent["status"], intent["latest_charge"]
        state, failure = _STATES[status], ""
        if status == "requires_payment_method" and intent["last_payment_error"] is not None:
            state, failure = PaymentState.FAILED, intent["last_payment_error"].get("message") or "the payment failed"
        charged = state is PaymentState.CHARGED
        return Payment(
            payment_id=intent["id"],
            state=state,
            held=intent["amount_capturable"] if state is PaymentState.HELD else 0,
            charged=charge["amount_captured"] if charged else 0,
            refunded=charge["amount_refunded"] if charged else 0,
            capture_before_us=_capture_before_us(charge) if state is PaymentState.HELD else None,
            action_url=_action_url(intent) if status == "requires_action" else "",
            failure=failure,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable(NAME, "answers what is not a payment") from error


def _capture_before_us(charge: dict[str, Any]) -> int | None:
    """None where the card's network does not say it."""
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    seconds = card.get("capture_before")
    return None if seconds is None else seconds * 1_000_000


def _action_url(intent: dict[str, Any]) -> str:
    action = intent["next_action"] or {}
    return (action.get("redirect_to_url") or {}).get("url") or ""
