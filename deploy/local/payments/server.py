"""The bank behind the part of Stripe's API that the services' adapter uses, on HTTP.

    /v1/…             the API, for who has the key
    /actions/{id}     a page on which a buyer approves a payment, or does not
    /healthz          whether its books can be read
    /bank/totals      what is held, charged and refunded, by currency
    /bank/faults      POST operation, fault, times: what goes wrong with the next requests

Events are posted to one address, signed; where that does not take them, again, ever more rarely.
"""

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from hashlib import sha256
from html import escape
from secrets import compare_digest, token_hex
from urllib.parse import urlencode, urlsplit

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from deploy.local.payments import shapes
from deploy.local.payments.bank import Bank
from deploy.local.payments.books import SECOND_US, Entry, Failed, Fault, KeyReused, PlannedFaults, Post, Refusal
from services.items.payments import Charge, PaymentState

HANGS_S = 60.0  # a request whose answer is lost
POST_TIMEOUT_S, POLL_S = 5.0, 0.05
AGAIN_FIRST_S, AGAIN_MOST_S = 0.5, 60.0  # between two posts of an event that is not taken
_START = {
    *("amount", "currency", "payment_method", "allowed_payment_method_types[0]", "capture_method", "confirm"),
    *("metadata[order_id]", "return_url", "expand[0]"),
}
Form = dict[str, str]
Transaction = Callable[[], AbstractContextManager[None]]
_Handler = Callable[[Request, Form], Response]

_BY_ORDER = re.compile(r"metadata\['order_id'\]:'([^']*)'")

_log = logging.getLogger(__name__)


class Api:
    """Args:
    transaction: what is written in one is kept whole; nothing else runs in between.
    hangs_s: how long a request hangs whose answer is lost, unless its caller leaves.
    """

    def __init__(
        self, bank: Bank, key: str, transaction: Transaction = nullcontext, *, hangs_s: float = HANGS_S
    ) -> None:
        self._bank, self._key, self._transaction, self._hangs_s = bank, key, transaction, hangs_s

    def routes(self) -> list[Route]:
        intents, change = "/v1/payment_intents", {"expand[0]"}
        return [
            Route(intents, self._guarded(self._start, _START), methods=["POST"]),
            Route(intents, self._guarded(self._list, {"limit"})),
            Route(f"{intents}/search", self._guarded(self._search, {"query", "limit", "expand[0]"})),
            Route(f"{intents}/{{id}}", self._guarded(self._find, change)),
            Route(f"{intents}/{{id}}/capture", self._guarded(self._capture, change), methods=["POST"]),
            Route(f"{intents}/{{id}}/cancel", self._guarded(self._cancel, change), methods=["POST"]),
            Route("/v1/refunds", self._guarded(self._refund, {"payment_intent", "amount"}), methods=["POST"]),
            Route("/bank/totals", self._guarded(self._totals, set())),
            Route("/bank/faults", self._guarded(self._plan, {"operation", "fault", "times"}), methods=["POST"]),
            Route("/healthz", self._health),
            Route("/actions/{id}", self._page),
            Route("/actions/{id}", self._act, methods=["POST"]),
        ]

    def _guarded(self, handler: _Handler, names: set[str]) -> Callable[[Request], Awaitable[Response]]:
        """For who has the key, with these parameters; errors as Stripe says them."""

        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not compare_digest(given.encode(), self._key.encode()):
                return _error(401, "invalid_request_error", "Invalid API key.")
            form = await _form(request)
            try:
                if unknown := ", ".join(form.keys() - names):
                    raise Refusal("parameter_unknown", f"Received unknown parameter: {unknown}")
                with self._transaction():
                    return handler(request, form)
            except Refusal as refusal:
                status, body = shapes.refused(refusal)
                return JSONResponse(body, status)
            except KeyReused:
                return _error(400, "idempotency_error", "Keys can only be used with the parameters they came with.")
            except Failed as failed:
                return await self._faulty(request, failed.fault)

        return answer

    async def _faulty(self, request: Request, fault: Fault) -> Response:
        if fault in shapes.FAULTS:
            return _error(*shapes.FAULTS[fault])
        for _ in range(round(self._hangs_s / POLL_S)):
            if await request.is_disconnected():
                break
            await asyncio.sleep(POLL_S)
        return Response(status_code=504)

    def _start(self, request: Request, form: Form) -> Response:
        charge = Charge(
            order_id=form.get("metadata[order_id]", ""),
            amount=_number(form, "amount"),
            currency=form.get("currency", "").upper(),
            payment_method=form.get("payment_method", ""),
            captures=form.get("capture_method") != "manual",
        )
        if form.get("confirm") != "true" or len(charge.currency) != 3:
            raise Refusal("parameter_invalid", "confirm must be true, and currency a code of ISO 4217.")
        entry, is_known = self._bank.start(_key(request), charge, form.get("return_url", ""))
        made = shapes.intent(entry, _expands(form))
        if entry.payment.state is PaymentState.FAILED:
            body = {"error": shapes.card_error(entry.payment.failure, made)}
            return JSONResponse(body, 402, headers=_replayed(is_known))
        return JSONResponse(made, headers=_replayed(is_known))

    def _capture(self, request: Request, form: Form) -> Response:
        entry, is_known = self._bank.capture(_key(request), request.path_params["id"])
        return JSONResponse(shapes.intent(entry, _expands(form)), headers=_replayed(is_known))

    def _cancel(self, request: Request, form: Form) -> Response:
        entry, is_known = self._bank.release(_key(request), request.path_params["id"])
        return JSONResponse(shapes.intent(entry, _expands(form)), headers=_replayed(is_known))

    def _refund(self, request: Request, form: Form) -> Response:
        amount = _number(form, "amount")
        entry, is_known = self._bank.refund(_key(request), form.get("payment_intent", ""), amount)
        return JSONResponse(shapes.refund(entry, amount), headers=_replayed(is_known))

    def _find(self, request: Request, form: Form) -> Response:
        return JSONResponse(shapes.intent(self._bank.find(request.path_params["id"]), _expands(form)))

    def _list(self, request: Request, form: Form) -> Response:
        most = min(100, max(1, _number(form, "limit")))
        data = [shapes.intent(entry) for entry in self._bank.newest(most + 1)]
        has_more = len(data) > most
        return JSONResponse({"object": "list", "data": data[:most], "has_more": has_more, "url": "/v1/payment_intents"})

    def _search(self, request: Request, form: Form) -> Response:
        """By the order alone."""
        asked = _BY_ORDER.fullmatch(form.get("query", ""))
        if asked is None:
            raise Refusal("parameter_invalid", "query must be metadata['order_id']:'…'.")
        found = self._bank.of_order(asked[1])
        data = [] if found is None else [shapes.intent(found, form.get("expand[0]") == "data.latest_charge")]
        url = "/v1/payment_intents/search"
        return JSONResponse({"object": "search_result", "data": data, "has_more": False, "url": url})

    def _totals(self, request: Request, form: Form) -> Response:
        return JSONResponse({currency: asdict(totals) for currency, totals in self._bank.totals().items()})

    def _plan(self, request: Request, form: Form) -> Response:
        if not isinstance(self._bank.faults, PlannedFaults) or form.get("fault") not in list(Fault):
            raise Refusal("parameter_invalid", f"fault must be one of {', '.join(Fault)}.")
        self._bank.faults.add(form.get("operation", ""), Fault(form["fault"]), _number(form, "times"))
        return Response(status_code=204)

    async def _health(self, request: Request) -> Response:
        self._bank.newest(1)
        return Response()

    async def _page(self, request: Request) -> Response:
        with self._transaction():
            entry = self._looked_up(request)
        if entry is None:
            return HTMLResponse(_html("No such payment", ""), 404)
        return _buttons(entry) if entry.payment.action_url else _back(entry)

    async def _act(self, request: Request) -> Response:
        approves = (await _form(request)).get("approve") == "yes"
        with self._transaction():
            entry = self._looked_up(request)
            if entry is not None:
                return _back(self._bank.act(entry.payment.payment_id, approves))
        return HTMLResponse(_html("No such payment", ""), 404)

    def _looked_up(self, request: Request) -> Entry | None:
        try:
            return self._bank.look(request.path_params["id"])
        except Refusal:
            return None


class Postman:
    """Delivers the bank's events to one address, or to nobody ("") by throwing them away, until it is cancelled."""

    def __init__(self, bank: Bank, url: str, secret: str, transaction: Transaction = nullcontext) -> None:
        self._bank, self._url, self._secret, self._transaction = bank, url, secret, transaction

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=POST_TIMEOUT_S) as client:
            while True:
                with self._transaction():
                    due = self._bank.due_posts()
                for post in due:
                    is_taken = not self._url or await self._deliver(client, post)
                    with self._transaction():
                        if is_taken:
                            self._bank.delivered(post)
                        else:
                            after_s = min(AGAIN_MOST_S, AGAIN_FIRST_S * 2 ** min(post.tries, 30))
                            self._bank.not_delivered(post, round(after_s * SECOND_US))
                await asyncio.sleep(POLL_S)

    async def _deliver(self, client: httpx.AsyncClient, post: Post) -> bool:
        payload = json.dumps(shapes.event(post)).encode()
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature(payload, self._secret)}
        try:
            answer = await client.post(self._url, content=payload, headers=headers)
        except httpx.HTTPError as error:
            _log.info("an event was not delivered: %s", type(error).__name__)
            return False
        return answer.is_success


def signature(payload: bytes, secret: str, at_s: int | None = None) -> str:
    """The header of an event that is posted now, or was at `at_s`, seconds since 1970."""
    at_s = int(time.time()) if at_s is None else at_s
    signed = hmac.new(secret.encode(), f"{at_s}.".encode() + payload, sha256).hexdigest()
    return f"t={at_s},v1={signed}"


def application(api: Api) -> Starlette:
    return Starlette(routes=api.routes())


async def _form(request: Request) -> Form:
    given = request.url.query if request.method == "GET" else (await request.body()).decode()
    return shapes.fields(given)


def _number(form: Form, name: str) -> int:
    given = form.get(name, "")
    if not (given.isascii() and given.isdigit()):
        raise Refusal("parameter_invalid_integer", f"Invalid integer: {name}")
    return int(given)


def _expands(form: Form) -> bool:
    return form.get("expand[0]") == "latest_charge"


def _key(request: Request) -> str:
    return request.headers.get("idempotency-key") or token_hex()


def _replayed(is_known: bool) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if is_known else {}


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"type": kind, "message": message}}, status)


def _buttons(entry: Entry) -> Response:
    amount = f"{entry.charge.amount} {escape(entry.charge.currency)}, in minor units"
    form = (
        f'<p>{amount}</p><form method="post"><button name="approve" value="yes">Approve</button> '
        '<button name="approve" value="no">Decline</button></form>'
    )
    back = urlsplit(entry.return_url)
    onwards = f" {back.scheme}://{back.netloc}" if back.netloc else ""  # a browser asks that of redirects, too
    policy = f"default-src 'none'; form-action 'self'{onwards}; frame-ancestors 'none'"
    return HTMLResponse(_html("Do you approve this payment?", form), headers={"Content-Security-Policy": policy})


def _back(entry: Entry) -> Response:
    """To where the buyer came from, if that was said."""
    if not entry.return_url:
        return HTMLResponse(_html(f"The payment is {entry.payment.state}", ""))
    ending = "failed" if entry.payment.state is PaymentState.FAILED else "succeeded"
    query = urlencode({"payment_intent": entry.payment.payment_id, "redirect_status": ending})
    glue = "&" if "?" in entry.return_url else "?"
    return RedirectResponse(f"{entry.return_url}{glue}{query}", 303)


def _html(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>{title}</h1>{body}</main></body></html>'
