"""Shows metrics and health over HTTP, on the services' own event loop, to who has no certificate: scrapes and probes.

    /metrics       Prometheus' text
    /health/NAME   200 while the name of health.py is served, else 503, such as /health/liveness and /health/readiness

It knows as much of HTTP as these need: one GET a connection. Connections are few and short, and the oldest gives
way to a new one, so that nobody who opens them and stays silent can keep a scrape out.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from services.runtime.addresses import listening

HEALTH = "/health/"
MOST_CONNECTIONS = 32
MOST_HEADER_BYTES = 8192
TIMEOUT_S = 5.0  # for a whole connection


class Exposition:
    """The server. `is_served` says whether a name of health's is; None where it knows no such name."""

    def __init__(self, registry: CollectorRegistry, is_served: Callable[[str], bool | None]) -> None:
        self._registry = registry
        self._is_served = is_served
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], None] = {}  # in the order of their coming
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Raises CannotListen when it cannot listen there."""
        for bound in await listening(host, port, "PERFUSION_METRICS_PORT"):
            self.port = bound.getsockname()[1]
            self._servers.append(await asyncio.start_server(self._accept, sock=bound, limit=MOST_HEADER_BYTES))

    async def stop(self) -> None:
        """Closes what is open."""
        for server in self._servers:
            server.close()
        open_still = tuple(self._connections)
        for connection in open_still:
            connection.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MOST_CONNECTIONS:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        self._connections[task] = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.CancelledError):
            pass  # too slow, gone, or stopped
        finally:
            writer.transport.abort()
            self._connections.pop(task, None)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError:
            return b""
        line, *headers = request.split("\r\n")
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        is_served = self._is_served(path.removeprefix(HEALTH)) if path.startswith(HEALTH) else None
        if path != "/metrics" and is_served is None:
            return _response(HTTPStatus.NOT_FOUND)
        if method != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        if is_served is not None:
            return _response(HTTPStatus.OK if is_served else HTTPStatus.SERVICE_UNAVAILABLE)
        accepted = next((value for name, value in map(_header, headers) if name == "accept"), "")
        encode, content_type = choose_encoder(accepted)
        return _response(HTTPStatus.OK, encode(self._registry), content_type)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _response(status: HTTPStatus, body: bytes = b"", content_type: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
