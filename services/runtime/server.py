"""A gRPC server as every service runs it: interceptor, health, reflection, metrics, and a graceful stop.

It knows a server's start and stop. The service's `__main__` gives the servicer and the dependencies.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.runtime.health import Dependency, HealthMonitor
from services.runtime.interceptor import ServiceInterceptor
from services.runtime.metrics import DependencyMetrics, RpcMetrics, serve_metrics
from services.runtime.settings import RuntimeSettings

_log = logging.getLogger(__name__)


class Server:
    """One service's server. `register` adds the servicer: `partial(add_RankingServiceServicer_to_server, servicer)`.

    `service` is the full protobuf name, e.g. "perfusion.v1.RankingService". `closers` run last, after the drain.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        dependencies: Sequence[Dependency],
        registry: CollectorRegistry,
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._settings = settings
        self._service = service
        self._registry = registry
        self._closers = tuple(closers)
        self._health = HealthServicer()
        self._monitor = HealthMonitor(
            self._health,
            [service],
            dependencies,
            DependencyMetrics(registry),
            interval_s=settings.health_interval_s,
            timeout_s=settings.health_timeout_s,
        )
        self._grpc = self._build(register)
        self._polling: asyncio.Task[None] | None = None
        self._metrics_server: WSGIServer | None = None
        self.port = 0

    def _build(self, register: Callable[[grpc.aio.Server], None]) -> grpc.aio.Server:
        settings = self._settings
        interceptor = ServiceInterceptor(
            RpcMetrics(self._registry),
            max_calls=settings.max_concurrent_calls,
            default_deadline_s=settings.default_deadline_s,
        )
        options = [
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # Two servers on one port would share its calls silently; better that the second fails to start.
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(interceptors=[interceptor], options=options)
        register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection([self._service, health_name, reflection.SERVICE_NAME], server)
        return server

    async def start(self) -> None:
        """Listens, not yet serving: health says so until every dependency has answered."""
        settings = self._settings
        await self._monitor.start()
        self.port = self._grpc.add_insecure_port(f"{settings.host}:{settings.port}")
        await self._grpc.start()
        self._metrics_server = serve_metrics(self._registry, settings.host, settings.metrics_port)
        self._polling = asyncio.create_task(self._monitor.run(), name="health")
        _log.info("listening", extra={"port": self.port, "metrics_port": self._metrics_server.server_port})

    async def poll_health(self) -> dict[str, str]:
        """Polls the dependencies now, without waiting for the next turn; returns the problems by name."""
        return await self._monitor.poll()

    async def stop(self) -> None:
        """Reports NOT_SERVING, then takes no new call, lets those in flight finish within the drain, closes clients."""
        await self._health.enter_graceful_shutdown()
        self._monitor.stop()
        await asyncio.sleep(self._settings.lame_duck_s)  # balancers need to hear of it before calls are refused
        await self._grpc.stop(self._settings.drain_s)
        if self._polling is not None:
            await self._polling
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()
        for close in self._closers:
            await close()
        _log.info("stopped")

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await self.start()
        await stopping.wait()
        await self.stop()
