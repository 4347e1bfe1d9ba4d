"""Providers of payments to try the port on: the fake one in process, and the adapter over servers of Stripe's API.

Each is a `Trial`: the provider, and beside it what a buyer, the time and the network do.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.local.layout import ROOT
from deploy.local.payments import shapes
from deploy.local.payments.bank import Bank
from deploy.local.payments.books import SECOND_US, Event, PlannedFaults
from deploy.local.payments.provider import FakeProvider
from deploy.local.payments.server import Api, application, signature
from services.items.adapters.stripe import StripeProvider
from services.items.ports import Provider

KEY, SECRET, RETURN_URL = "sk_test_contract", "whsec_contract", "http://localhost:1/orders"
TIMEOUT_S = 30.0  # of a busy machine
START_US = 1_800_000_000 * SECOND_US  # 2027
TOOLS = ROOT / "build" / "payments"  # `make payments-check` fills it
LOCALSTRIPE = TOOLS / "localstripe" / "bin" / "localstripe"
STRIPE_MOCK = TOOLS / "bin" / "stripe-mock"


@dataclass
class Time:
    """A clock that a test moves."""

    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND_US)


@dataclass
class Trial:
    provider: Provider


@dataclass
class BankTrial(Trial):
    """On our own bank, which promises everything."""

    bank: Bank
    time: Time
    faults: PlannedFaults

    def posts(self) -> list[tuple[bytes, str]]:
        """Events that are due, with their signatures."""
        if isinstance(self.provider, FakeProvider):
            return self.provider.posts()
        due = self.bank.due_posts()
        for post in due:
            self.bank.delivered(post)
        payloads = [httpx.Response(200, json=shapes.event(post)).content for post in due]
        return [(payload, signature(payload, SECRET)) for payload in payloads]


def twice_and_backwards(event: Event) -> tuple[int, ...]:
    """Each event comes twice, a later one before an earlier."""
    return (10 * SECOND_US - 2 * (event.at_us - START_US), 20 * SECOND_US)


@asynccontextmanager
async def fake() -> AsyncIterator[Trial]:
    time, faults = Time(), PlannedFaults()
    bank = Bank(time, faults=faults)
    yield BankTrial(FakeProvider(bank), bank, time, faults)


@asynccontextmanager
async def stripe_on_our_server() -> AsyncIterator[Trial]:
    time, faults = Time(), PlannedFaults()
    bank = Bank(time, faults=faults)
    api = Api(bank, KEY, hangs_s=0)
    async with serving(application(api)) as url, stripe_at(url, return_url=RETURN_URL) as provider:
        yield BankTrial(provider, bank, time, faults)


@asynccontextmanager
async def stripe_on_localstripe() -> AsyncIterator[Trial]:
    """It minds no keys, gives back more than was charged and what was only held, names no payment that is declined,
    captures what was released, and its holds have no end."""
    port = free_port()
    async with (
        program(LOCALSTRIPE, "--port", str(port), "--from-scratch", port=port),
        httpx.AsyncClient(base_url=f"http://localhost:{port}", timeout=TIMEOUT_S) as client,
        serving(_newer_api(client)) as url,
        stripe_at(url) as provider,
    ):
        yield Trial(provider)


@asynccontextmanager
async def stripe_at(
    url: str, *, key: str = KEY, return_url: str | None = None, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[StripeProvider]:
    provider = StripeProvider(key, SECRET, url=url, return_url=return_url, timeout_s=timeout_s)
    try:
        yield provider
    finally:
        await provider.close()


class _Uvicorn(uvicorn.Server):
    """One that leaves signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Its address, on this machine."""
    server = _Uvicorn(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@asynccontextmanager
async def program(
    file: str | Path, *arguments: str, port: int, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs while it is needed, once it listens."""
    running = await asyncio.create_subprocess_exec(
        *(str(file), *arguments),
        env={"PATH": os.environ["PATH"]} | (env or {}),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not await _listens(port):
                assert running.returncode is None, f"{file} ended"
                await asyncio.sleep(0.05)
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("localhost", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _newer_api(client: httpx.AsyncClient) -> Starlette:
    """localstripe speaks the API of some years ago: what came since is taken out of requests and put into answers."""

    async def relay(request: Request) -> Response:
        form = shapes.fields((await request.body()).decode())
        form.pop("allowed_payment_method_types[0]", None)
        answer = await client.request(
            *(request.method, f"{request.url.path}?{request.url.query}"),
            data=form or None,
            headers={"Authorization": request.headers["Authorization"]},
        )
        return JSONResponse(_newer(answer.json()), answer.status_code)

    return Starlette(routes=[Route("/{path:path}", relay, methods=["GET", "POST"])])


def _newer(body: dict[str, Any]) -> dict[str, Any]:
    charge = body.get("latest_charge")
    if isinstance(charge, dict):
        charge["amount_captured"] = charge["amount"] if charge["captured"] else 0
        body["amount_capturable"] = body["amount"] - charge["amount_captured"]
    return body
