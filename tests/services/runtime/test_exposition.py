"""The metrics' port: a scrape is answered, whatever others do with the port."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter

from services.runtime import exposition
from services.runtime.exposition import MOST_CONNECTIONS, Exposition


@asynccontextmanager
async def shown() -> AsyncIterator[Exposition]:
    registry = CollectorRegistry()
    Counter("made_total", "Things.", registry=registry).inc(3)
    server = Exposition(registry, {"liveness": True, "readiness": False}.get)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


async def asked(server: Exposition, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def scraped(server: Exposition, accept: str = "") -> bytes:
    return await asked(server, f"GET /metrics HTTP/1.1\r\nHost: here\r\n{accept}\r\n".encode())


async def test_a_scrape_gets_text_or_open_metrics_as_it_accepts() -> None:
    async with shown() as server:
        assert b"200 OK" in await scraped(server) and b"made_total 3.0" in await scraped(server)
        assert b"# EOF" not in await scraped(server)
        assert b"# EOF" in await scraped(server, "Accept: application/openmetrics-text; version=1.0.0\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /health/liveness HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /health/readiness HTTP/1.1\r\n\r\n", b"503"),
        (b"GET /health/elsewhere HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /health/liveness HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"431"),
        (b"\xff\xfe\r\n\r\n", b"404"),
        (b"\r\n\r\n", b"404"),
    ],
)
async def test_another_request_is_told_so(request_: bytes, status: bytes) -> None:
    async with shown() as server:
        answer = await asked(server, request_)
        assert answer[:12] in (b"HTTP/1.1 " + status, b"")  # what is sent in vain may reset the connection
        assert answer or status == b"431"


async def test_silent_connections_neither_take_threads_nor_keep_a_scrape_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with shown() as server:
        threads = threading.active_count()
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MOST_CONNECTIONS * 3)]
        for _, writer in silent[::2]:
            writer.write(b"GET /metrics HT")
        assert b"made_total 3.0" in await scraped(server)
        assert threading.active_count() <= threads
        assert len(server._connections) <= MOST_CONNECTIONS
        for _, writer in silent:
            writer.close()


async def test_a_connection_has_so_much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "TIMEOUT_S", 0.2)
    async with shown() as server:
        assert await asked(server, b"GET /metrics HTTP/1.1\r\nHost: he") == b""
        assert server._connections == {}
