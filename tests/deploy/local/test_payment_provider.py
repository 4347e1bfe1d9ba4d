"""The provider of payments as a process of its own: it survives a kill, asks buyers, and posts what happens."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.local.authority import Authority
from deploy.local.layout import PORTS, ROOT, Layout
from deploy.local.parts import part
from services.items.adapters.stripe import StripeProvider
from services.items.payments import Charge, PaymentState
from services.runtime.errors import PermissionDenied, Unavailable
from tests.services.items.providers import TIMEOUT_S, free_port, program, serving

CHARGE = Charge("order-1", 12_345, "EUR", "pm_card_visa", captures=False)
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")])}


class Endpoint:
    """Where events are posted: it takes them from the second try on."""

    def __init__(self) -> None:
        self.posts: list[tuple[bytes, str]] = []
        self.app = Starlette(routes=[Route("/payments", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.posts.append((await request.body(), request.headers["stripe-signature"]))
        return Response(status_code=500 if len(self.posts) == 1 else 200)


class Place:
    """A folder and a port for a provider of a test."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.port = Authority(folder), free_port()
        self.authority.prepare([])
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = self.authority.payment_key.read_text()

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        where = ("--home", str(self.authority.payments), "--port", str(self.port))
        command = ("-m", "deploy.local.payments", *where, *arguments)
        async with program(sys.executable, *command, port=self.port, env=ENVIRONMENT) as process:
            yield process

    @asynccontextmanager
    async def client(self, timeout_s: float = TIMEOUT_S) -> AsyncIterator[StripeProvider]:
        secret = self.authority.webhook_secret.read_text()
        back = "http://localhost:1/orders"
        provider = StripeProvider(self.key, secret, url=self.url, return_url=back, timeout_s=timeout_s)
        try:
            yield provider
        finally:
            await provider.close()

    def browser(self, key: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=TIMEOUT_S)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_killed_provider_comes_back_with_its_books(place: Place) -> None:
    async with place.client() as provider:
        async with place.running() as process:
            held = await provider.start("key-1", CHARGE)
            charged = await provider.start("key-2", replace(CHARGE, captures=True))
            refunded = await provider.refund("key-3", charged.payment_id, 345)
            process.kill()
            await process.wait()
            with pytest.raises(Unavailable):
                await provider.find(held.payment_id)
        async with place.running(), place.browser(place.key) as client:
            assert await provider.start("key-1", CHARGE) == held == await provider.find(held.payment_id)
            assert await provider.refund("key-3", charged.payment_id, 345) == refunded
            totals = (await client.get("/bank/totals")).json()
    assert totals == {"EUR": {"held": 12_345, "charged": 12_345, "refunded": 345}}


async def test_what_happens_is_posted_until_it_is_taken_signed_for_who_has_the_secret(place: Place) -> None:
    endpoint = Endpoint()
    async with (
        serving(endpoint.app) as url,
        place.running("--post-to", f"{url}/payments", "--delay-s", "0.3"),
        place.client() as provider,
    ):
        payment = await provider.start("key-1", replace(CHARGE, payment_method="pm_card_delayed", captures=True))
        assert payment.state is PaymentState.PENDING
        async with asyncio.timeout(TIMEOUT_S):
            while (await provider.find(payment.payment_id)).state is PaymentState.PENDING or len(endpoint.posts) < 3:
                await asyncio.sleep(0.02)
        assert {provider.paid(*post) for post in endpoint.posts} == {payment.payment_id}
    payloads = [payload for payload, _ in endpoint.posts]
    assert len(payloads) == 3 and len(set(payloads)) == 2  # of two events one was not taken at first
    assert {b'"payment_intent.processing"' in payload for payload in payloads} == {True, False}
    assert any(b'"payment_intent.succeeded"' in payload for payload in payloads)
    stranger = StripeProvider("sk_test_1", "whsec_stranger", timeout_s=1.0)
    with pytest.raises(PermissionDenied):
        stranger.paid(*endpoint.posts[0])
    await stranger.close()


async def test_a_buyer_approves_on_a_page_and_comes_back(place: Place) -> None:
    asks = replace(CHARGE, payment_method="pm_card_authenticationRequired")
    async with place.running(), place.client() as provider, place.browser() as browser:
        for answer, state in (("yes", PaymentState.HELD), ("no", PaymentState.FAILED)):
            payment = await provider.start(f"key-{answer}", asks)
            page = await browser.get(payment.action_url)
            assert page.status_code == 200 and "12345 EUR" in page.text
            assert page.headers["content-security-policy"].startswith("default-src 'none'")
            back = await browser.post(payment.action_url, data={"approve": answer})
            assert back.status_code == 303
            assert back.headers["location"].startswith("http://localhost:1/orders/order-1?")
            assert (await provider.find(payment.payment_id)).state is state
            assert (await browser.get(payment.action_url)).status_code == 303  # there is nothing more to do
        assert (await browser.get("/actions/pi_nothing")).status_code == 404


async def test_only_who_has_the_key_calls_it_and_its_faults_are_planned(place: Place) -> None:
    plan = {"operation": "start", "fault": "unheard", "times": "1"}
    async with place.running(), place.browser("sk_test_wrong") as stranger, place.browser(place.key) as owner:
        for path in ("/bank/totals", "/v1/payment_intents?limit=1"):
            assert (await stranger.get(path)).status_code == 401
        assert (await stranger.post("/bank/faults", data=plan)).status_code == 401
        assert (await owner.post("/bank/faults", data=plan | {"fault": "fire"})).status_code == 400
        assert (await owner.post("/bank/faults", data=plan)).status_code == 204
        async with place.client(timeout_s=0.3) as hasty:
            with pytest.raises(Unavailable):
                await hasty.start("key-1", CHARGE)
        async with place.client() as provider:
            assert (await provider.start("key-1", CHARGE)).held == CHARGE.amount
        assert (await owner.get("/bank/totals")).json()["EUR"]["held"] == CHARGE.amount


async def test_it_is_a_part_of_the_platform_with_secrets_of_its_own() -> None:
    port = free_port()
    layout = Layout(name=f"payments-{port}", port_offset=port - PORTS["payment_provider"])
    provider = part("payment_provider")
    try:
        assert not provider.is_ready(layout)
        provider.prepare(layout)
        key = Authority(layout.home).payment_key.read_text()
        program_, *arguments = provider.command(layout)
        async with program(program_, *arguments, port=port, env=provider.environment(layout)):
            assert await asyncio.to_thread(provider.is_ready, layout)
            client = StripeProvider(key, "whsec_1", url=layout.payment_url, timeout_s=TIMEOUT_S)
            await client.check()
            await client.close()
    finally:
        shutil.rmtree(layout.home)
