"""The page's web server: uvicorn, with the upkeep that every service has, and a stop that ends streams first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.runtime.addresses import listening
from services.runtime.certificates import Certificates
from services.runtime.health import Needs
from services.runtime.upkeep import Upkeep, until_told
from services.runtime.workers import Worker
from services.studio.guard import App
from services.studio.settings import Settings

SERVICE = "perfusion.Studio"  # to health and metrics
KEEP_ALIVE_S = 30
HEAD_S = 20.0  # for the head of a request, which a browser sends at once
MOST_CONNECTIONS = 4096

_log = logging.getLogger(__name__)
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of its start and stop, as we do


class _Uvicorn(uvicorn.Server):
    """One that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Http(H11Protocol):
    """HTTP/1.1 that ends a connection on which no whole head of a request comes in time: uvicorn waits for ever."""

    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_nothing()
        elif self._ends is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_nothing()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._ends = self.loop.call_later(HEAD_S, self.transport.abort)

    def _await_nothing(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None


class WebServer:
    """`on_stop` runs before the requests in flight are waited for: it ends those that have no end of their own."""

    def __init__(
        self,
        settings: Settings,
        app: App,
        needs: Needs,
        registry: CollectorRegistry,
        *,
        workers: Sequence[Worker],
        on_stop: Callable[[], Awaitable[None]],
        closers: Sequence[Callable[[], Awaitable[None]]],
        certificates: Certificates | None,
    ) -> None:
        self._settings = settings
        self._on_stop = on_stop
        self._upkeep = Upkeep(
            settings, SERVICE, needs, registry, workers=workers, closers=closers, certificates=certificates
        )
        self._web = _Uvicorn(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(settings.drain_s)),
                limit_concurrency=MOST_CONNECTIONS,
                ws="none",
                http=Http,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def metrics_port(self) -> int:
        """Where the metrics are shown, once it has started."""
        return self._upkeep.metrics_port

    async def poll_health(self) -> dict[str, str]:
        """Polls the dependencies now; returns the problems by name."""
        return await self._upkeep.monitor.poll()

    async def start(self) -> None:
        """Listens; raises CannotListen."""
        await self._upkeep.expose()
        try:
            sockets = await listening(self._settings.host, self._settings.port, "PERFUSION_PORT")
        except RuntimeError:
            await self._upkeep.stop()
            raise
        self.port = sockets[0].getsockname()[1]
        self._serving = asyncio.create_task(self._web.serve(sockets), name="web")
        while not self._web.started and not self._serving.done():
            await asyncio.sleep(0.005)
        self._upkeep.start()
        _log.info("listening", extra={"port": self.port, "metrics_port": self.metrics_port})

    async def stop(self) -> None:
        """Ends streams, lets requests in flight finish within the drain, closes clients."""
        await self._upkeep.announce_stop()
        await self._on_stop()
        self._web.should_exit = True
        if self._serving is not None:
            await self._serving
        await self._upkeep.stop()
        _log.info("stopped")

    async def run(self) -> None:
        """Serves until SIGTERM, SIGINT or SIGHUP."""
        stopping = until_told()
        await self.start()
        await stopping.wait()
        await self.stop()
