"""Stripe's adapter: what each of Stripe's answers means, what is asked of it, and that no secret is told."""

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.local.payments.bank import Bank
from deploy.local.payments.books import Fault, PlannedFaults
from deploy.local.payments.server import Api, application, signature
from services.items.adapters.stripe import TOLERANCE_S, StripeProvider
from services.items.payments import Charge, Payment, PaymentState
from services.items.ports import Refused
from services.runtime.errors import PermissionDenied, Unavailable
from tests.services.items.providers import KEY, RETURN_URL, SECRET, free_port, serving, stripe_at

CHARGE = Charge("order-1", 12_345, "EUR", "pm_card_visa", captures=False)
HELD: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 12_345,
    "amount_capturable": 12_345,
    "last_payment_error": None,
    "latest_charge": {"object": "charge", "id": "ch_1", "amount_captured": 0, "amount_refunded": 0},
    "next_action": None,
    "status": "requires_capture",
}
ASK: list[Callable[[StripeProvider], Awaitable[object]]] = [
    lambda provider: provider.start("key", CHARGE),
    lambda provider: provider.capture("key", "pi_1"),
    lambda provider: provider.release("key", "pi_1"),
    lambda provider: provider.refund("key", "pi_1", 45),
    lambda provider: provider.find("pi_1"),
    lambda provider: provider.check(),
]


class Scripted:
    """A server that answers everything alike, and remembers what it was asked."""

    def __init__(self, status: int, body: object) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._status, self._body = status, body

    @asynccontextmanager
    async def provider(self, **options: Any) -> AsyncIterator[StripeProvider]:
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])
        async with serving(app) as url, stripe_at(url, **options) as provider:
            yield provider

    async def _answer(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode() or request.url.query))
        self.asked.append((f"{request.method} {request.url.path}", form, dict(request.headers)))
        if isinstance(self._body, str):
            return Response(self._body, self._status)
        return JSONResponse(self._body, self._status)


def error(kind: str, message: str = "So says Stripe.", **more: object) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, error("api_error")),
        (502, "<html>Bad gateway</html>"),
        (503, ""),
        (429, error("invalid_request_error", code="rate_limit")),
        (409, error("idempotency_error", code="idempotency_key_in_use")),
        (409, error("invalid_request_error", code="lock_timeout")),
        (400, error("idempotency_error")),
        (401, error("invalid_request_error")),
        (403, error("invalid_request_error")),
        (404, "<html>of a proxy</html>"),
        (413, {"message": "of a proxy"}),
        (200, "<html>of a proxy</html>"),
        (302, ""),
    ],
)
async def test_what_decides_nothing_is_unavailable_and_asked_once(status: int, body: object) -> None:
    scripted = Scripted(status, body)
    async with scripted.provider() as provider:
        for ask in ASK:
            with pytest.raises(Unavailable, match="payment provider"):
                await ask(provider)
    assert len(scripted.asked) == len(ASK)


@pytest.mark.parametrize("status", [400, 402, 404, 422])
async def test_what_stripe_refuses_is_refused_in_its_words(status: int) -> None:
    async with Scripted(
        status, error("card_error" if status == 402 else "invalid_request_error")
    ).provider() as provider:
        for ask in ASK:
            with pytest.raises(Refused, match="So says Stripe"):
                await ask(provider)


@pytest.mark.parametrize(
    "body", [[], {}, {"id": "pi_1"}, HELD | {"status": "dreaming"}, HELD | {"latest_charge": "ch_1"}]
)
async def test_an_answer_that_is_no_payment_is_unavailable(body: object) -> None:
    async with Scripted(200, body).provider() as provider:
        with pytest.raises(Unavailable):
            await provider.find("pi_1")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with stripe_at(f"http://127.0.0.1:{free_port()}") as provider:
        for ask in ASK:
            with pytest.raises(Unavailable):
                await ask(provider)


async def test_a_server_that_takes_too_long_is_unavailable() -> None:
    faults = PlannedFaults()
    bank = Bank(faults=faults)
    async with serving(application(Api(bank, KEY))) as url:
        async with stripe_at(url, timeout_s=0.2) as hasty:
            faults.add("start", Fault.UNHEARD)
            with pytest.raises(Unavailable):
                await hasty.start("key", CHARGE)
        async with stripe_at(url) as patient:
            payment = await patient.start("key", CHARGE)
    assert bank.totals()["EUR"].held == payment.held == CHARGE.amount


async def test_a_payment_is_asked_for_with_its_order_its_key_and_a_way_back() -> None:
    scripted = Scripted(200, HELD)
    async with scripted.provider(return_url=f"{RETURN_URL}/") as provider:
        await provider.start("key-1", CHARGE)
        await provider.capture("key-2", "pi_1")
    (path, form, headers), (_, _, second) = scripted.asked
    assert path == "POST /v1/payment_intents"
    assert form == {
        "amount": "12345",
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "allowed_payment_method_types[0]": "card",
        "capture_method": "manual",
        "confirm": "true",
        "metadata[order_id]": "order-1",
        "return_url": f"{RETURN_URL}/order-1",
        "expand[0]": "latest_charge",
    }
    assert headers["idempotency-key"] == "key-1" and second["idempotency-key"] == "key-2"
    assert headers["authorization"] == f"Bearer {KEY}" and headers["stripe-version"] == "2026-10-28.endive"
    assert "x-stripe-client-telemetry" not in headers


async def test_currencies_with_other_units_at_stripe_are_refused_unasked() -> None:
    scripted = Scripted(200, HELD)
    async with scripted.provider() as provider:
        for currency in ("ISK", "UGX"):
            with pytest.raises(Refused, match=currency):
                await provider.start("key", Charge("order-1", 500, currency, "pm_card_visa", captures=True))
    assert scripted.asked == []


async def test_a_declined_payment_is_the_one_that_stripe_made() -> None:
    failed = HELD | {
        "status": "requires_payment_method",
        "latest_charge": "ch_1",
        "last_payment_error": {"message": "Your card was declined."},
    }
    body = error("card_error", "Your card was declined.", code="card_declined", payment_intent=failed)
    async with Scripted(402, body).provider() as provider:
        payment = await provider.start("key", CHARGE)
    assert payment == Payment("pi_1", PaymentState.FAILED, failure="Your card was declined.")


async def test_an_action_without_an_address_is_none() -> None:
    in_the_browser = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
    body = HELD | {"status": "requires_action", "latest_charge": None, "next_action": in_the_browser}
    async with Scripted(200, body).provider() as provider:
        assert await provider.find("pi_1") == Payment("pi_1", PaymentState.PENDING)


@pytest.fixture
async def signed() -> AsyncIterator[StripeProvider]:
    async with stripe_at("http://127.0.0.1:1") as provider:
        yield provider


@pytest.mark.parametrize(
    ("about", "payment_id"),
    [
        ({"object": "payment_intent", "id": "pi_1"}, "pi_1"),
        ({"object": "charge", "id": "ch_1", "payment_intent": "pi_1"}, "pi_1"),
        ({"object": "refund", "id": "re_1", "payment_intent": "pi_1"}, "pi_1"),
        ({"object": "dispute", "id": "du_1", "payment_intent": "pi_1"}, "pi_1"),
        ({"object": "charge", "id": "ch_1", "payment_intent": None}, None),
        ({"object": "customer", "id": "cus_1"}, None),
    ],
)
async def test_an_event_is_about_a_payment_or_not(
    signed: StripeProvider, about: dict[str, Any], payment_id: str | None
) -> None:
    payload = json.dumps({"object": "event", "id": "evt_1", "type": "any", "data": {"object": about}}).encode()
    assert signed.paid(payload, signature(payload, SECRET)) == payment_id


async def test_what_is_signed_and_is_no_event_is_about_nothing(signed: StripeProvider) -> None:
    for payload in (
        b"nothing",
        b"[]",
        b"{}",
        b'{"data": 1}',
        b'{"data": {"object": []}}',
        b'{"object": "v2.core.event"}',
    ):
        assert signed.paid(payload, signature(payload, SECRET)) is None


async def test_an_event_is_believed_by_its_signature_alone(signed: StripeProvider) -> None:
    payload = json.dumps({"object": "event", "data": {"object": {"object": "payment_intent", "id": "pi_1"}}}).encode()
    good, now = signature(payload, SECRET), int(time.time())
    assert signed.paid(payload, signature(payload, SECRET, now - TOLERANCE_S + 60)) == "pi_1"
    assert signed.paid(payload, f"{good},v1={'0' * 64}") == "pi_1"  # while a secret is changed, there are two
    wrong = ["", "t=1", good[:-1], "v1=" + good.partition("v1=")[2], signature(payload, SECRET + "x")]
    wrong += [signature(payload, SECRET, now - TOLERANCE_S - 60), signature(payload + b" ", SECRET), "größe"]
    for signature_ in wrong:
        with pytest.raises(PermissionDenied):
            signed.paid(payload, signature_)
    with pytest.raises(PermissionDenied):
        signed.paid(b"\xff", good)


async def test_no_secret_is_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk_live_DoNotTell"
    said = []
    for status, body in ((200, HELD), (500, error("api_error")), (401, error("invalid_request_error"))):
        async with Scripted(status, body).provider(key=key) as provider:
            try:
                await provider.start("key", CHARGE)
            except Unavailable as problem:
                said.append(f"{problem} {problem.metadata} {problem.__cause__}")
    async with stripe_at(f"http://127.0.0.1:{free_port()}", key=key) as provider:
        with pytest.raises(Unavailable) as unavailable:
            await provider.start("key", CHARGE)
        said.append(str(unavailable.value))
        with pytest.raises(PermissionDenied) as denied:
            provider.paid(b"{}", "t=1,v1=1")
        said.append(str(denied.value))
    assert len(said) == 4
    for text in (caplog.text, *said):
        assert key not in text and SECRET not in text and CHARGE.payment_method not in text
