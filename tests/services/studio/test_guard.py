"""What every request passes: where it may come from, how large it may be, and the answer's headers."""

import asyncio
import re
from unittest.mock import AsyncMock

import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from services.studio import guard
from services.studio.guard import FORM_BYTES, Guard, Receive, Send
from services.studio.metrics import StudioMetrics
from tests.spans import SAMPLED, TRACE, recorded, trace_of

HOME = "https://studio.example"
OWN = {"sec-fetch-site": "same-origin", "origin": HOME}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def browser(registry: CollectorRegistry) -> TestClient:
    app = FastAPI()

    @app.api_route("/things/{name}", methods=["GET", "POST"])
    async def thing(name: str, request: Request) -> str:
        return str(len(await request.body()))

    return TestClient(Guard(app, HOME, StudioMetrics(registry)), base_url=HOME)  # type: ignore[arg-type]


def test_an_answer_lets_nothing_in_from_elsewhere_and_is_stored_nowhere(browser: TestClient) -> None:
    headers = browser.get("/things/a").headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)
    assert headers["cache-control"] == "private, no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "max-age" in headers["strict-transport-security"]
    assert re.fullmatch("[0-9a-f]{32}", headers["trace-id"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 200),
        ({"origin": HOME}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"sec-fetch-site": "cross-site", "origin": HOME}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "https://studio.example.evil"}, 403),
        ({"origin": "http://studio.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, 403),
    ],
)
def test_a_form_is_sent_by_the_studios_own_pages(browser: TestClient, headers: dict[str, str], status: int) -> None:
    assert browser.post("/things/a", headers=headers).status_code == status


@pytest.mark.parametrize("host", ["evil.example", "studio.example:444", "studio.example.evil", ""])
def test_another_host_is_nobody(browser: TestClient, host: str) -> None:
    assert browser.get("/things/a", headers={"host": host}).status_code == 403


def test_a_form_has_a_largest_size_with_and_without_a_length(browser: TestClient) -> None:
    def parts() -> object:
        for _ in range(FORM_BYTES // 2**20 + 1):
            yield b"x" * 2**20

    assert browser.post("/things/a", headers=OWN, content=b"x" * 2**20).text == f'"{2**20}"'
    assert browser.post("/things/a", headers=OWN, content=b"x" * (FORM_BYTES + 1)).status_code == 413
    assert browser.post("/things/a", headers=OWN, content=parts()).status_code == 413  # type: ignore[arg-type]


async def test_a_browser_that_has_gone_is_no_fault_and_a_fault_is_one(registry: CollectorRegistry) -> None:
    async def gone(*_: object) -> None:
        return

    async def failing(*_: object) -> None:
        raise RuntimeError

    metrics = StudioMetrics(registry)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"studio.example")]}
    nothing = AsyncMock()
    await Guard(gone, HOME, metrics)(scope, nothing, nothing)
    with pytest.raises(RuntimeError):
        await Guard(failing, HOME, metrics)(scope, nothing, nothing)
    for status in ("499", "500"):
        named = {"route": "unknown", "status": status}
        assert registry.get_sample_value("perfusion_http_handled_total", named) == 1


def test_requests_are_counted_by_route_never_by_what_a_browser_writes(
    browser: TestClient, registry: CollectorRegistry
) -> None:
    for path in ("/things/a", "/things/b", "/elsewhere/1", "/elsewhere/2"):
        browser.get(path)

    def count(route: str, status: str) -> float | None:
        return registry.get_sample_value("perfusion_http_handled_total", {"route": route, "status": status})

    assert count("/things/{name}", "200") == 2
    assert count("unknown", "404") == 2


def form_in(pieces: list[tuple[float, dict[str, object]]]) -> tuple[list[dict[str, object]], list[bytes]]:
    """What is answered to a form whose pieces come so many seconds after another, and what the page read of it."""
    sent: list[dict[str, object]] = []
    read: list[bytes] = []

    async def page(scope: dict[str, object], receive: Receive, send: Send) -> None:
        request = Request(scope, receive)  # type: ignore[arg-type]
        try:
            read.append(await request.body())
        except HTTPException as error:
            await PlainTextResponse(error.detail, error.status_code)(scope, receive, send)  # type: ignore[arg-type]
            return
        assert await request.is_disconnected() is False
        await asyncio.sleep(0.3)  # longer than the form may take: it has come
        await PlainTextResponse("read")(scope, receive, send)  # type: ignore[arg-type]

    async def play() -> None:
        left = list(pieces)

        async def receive() -> dict[str, object]:
            if not left:
                await asyncio.sleep(3600)
            wait_s, message = left.pop(0)
            await asyncio.sleep(wait_s)
            return message

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        headers = [(b"host", b"studio.example"), (b"origin", HOME.encode())]
        scope = {"type": "http", "method": "POST", "path": "/rounds", "headers": headers, "query_string": b""}
        await Guard(page, HOME, StudioMetrics(CollectorRegistry()))(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(play())
    return sent, read


def piece(body: bytes, *, more: bool) -> dict[str, object]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_form_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FORM_S", 0.2)
    sent, read = form_in([(0.05, piece(b"a", more=True))] * 1000)
    assert sent[0]["status"] == 408
    assert not read


def test_a_form_that_has_come_may_be_worked_on_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FORM_S", 0.2)
    sent, read = form_in([(0.01, piece(b"a", more=True)), (0.01, piece(b"b", more=False))])
    assert sent[0]["status"] == 200
    assert read == [b"ab"]


def test_a_request_is_a_span_by_its_routes_pattern(browser: TestClient) -> None:
    with recorded() as spans:
        answer = browser.get("/things/secretive?who=ada", headers={"traceparent": SAMPLED})
        browser.request("ADA", "/things/a", headers=OWN)
        found = spans.all()
    assert answer.headers["trace-id"] == TRACE == trace_of(found[0])
    assert [span.name for span in found] == ["GET /things/{name}", "_OTHER /things/{name}"]
    assert found[0].attributes == {
        "http.request.method": "GET",
        "http.route": "/things/{name}",
        "http.response.status_code": 200,
    }
    said = "".join(span.to_json() for span in found)
    assert "secretive" not in said and "ada" not in said.lower()
