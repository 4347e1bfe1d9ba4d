"""A gRPC server as every service runs it: interceptor, health, reflection, and a graceful stop.

It knows a server's start and stop; upkeep.py what runs beside its calls. The service's `__main__` gives the servicer
and the dependencies.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.runtime import access
from services.runtime.addresses import CannotListen, joined
from services.runtime.health import Needs, check_needs
from services.runtime.identity import identity_of
from services.runtime.interceptor import Limits, ServiceInterceptor
from services.runtime.metrics import RpcMetrics
from services.runtime.settings import RuntimeSettings
from services.runtime.upkeep import Upkeep, until_told
from services.runtime.workers import Worker

CLEAN_UP_S = 5.0  # for a call that was cut off to give up what it holds and to answer
FLUSH_S = 1.0  # for the last answers to leave
PROBE_WAIT_S = 20.0  # for the other end of a silent connection to answer
HANDSHAKE_S = 20.0  # for a new connection to speak HTTP/2
LEAST_PING_PAUSE_S = 10.0  # of clients that keep their connections alive
PARTS_SHARE = 8  # one place in so many is for the platform's own parts
METADATA_BYTES = 2**15  # of a call
LEAST_STREAMS = 100  # of one connection

_log = logging.getLogger(__name__)


class Server:
    """One service's server. `register` adds the servicer: `partial(add_RankingServiceServicer_to_server, servicer)`.

    `service` is the full protobuf name, e.g. "perfusion.v1.RankingService"; `needs` has a row for each of its
    methods. `workers` run beside the calls, until the drain is over; `closers` run last.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        needs: Needs,
        registry: CollectorRegistry,
        workers: Sequence[Worker] = (),
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        check_needs(service, needs)
        access.check_rows(f"{service}/{method}" for method in needs)
        self._settings = settings
        self._service = service
        self._registry = registry
        identity = identity_of(settings)
        self._certificates = identity.certificates
        self._upkeep = Upkeep(
            settings, service, needs, registry, workers=workers, closers=closers, certificates=identity.certificates
        )
        calls = RpcMetrics(registry)
        for method in needs:
            calls.expect(f"/{service}/{method}")
        self._interceptor = ServiceInterceptor(calls, _limits(settings), identity.callers, self._upkeep.monitor.doubt)
        self._grpc = self._build(register)
        self.port = 0

    def _build(self, register: Callable[[grpc.aio.Server], None]) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[self._interceptor], options=_options(self._settings))
        register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._upkeep.health, server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection([self._service, health_name, reflection.SERVICE_NAME], server)
        return server

    async def start(self) -> None:
        """Listens, not yet serving: health says so until what a method needs has answered.

        Raises:
            CannotListen: the host has no address here, or a port is taken.
        """
        settings = self._settings
        await self._upkeep.expose()
        try:
            self.port = self._listen(joined(settings.host, settings.port))
        except RuntimeError as error:
            await self._upkeep.stop()
            raise CannotListen("PERFUSION_PORT", settings.host, settings.port, "the port is taken") from error
        await self._grpc.start()
        self._upkeep.start()
        _log.info("listening", extra={"port": self.port, "metrics_port": self.metrics_port})

    def _listen(self, address: str) -> int:
        if self._certificates is None:
            return self._grpc.add_insecure_port(address)
        return self._grpc.add_secure_port(address, self._certificates.for_server())

    @property
    def metrics_port(self) -> int:
        """Where the metrics are shown, once it has started."""
        return self._upkeep.metrics_port

    async def poll_health(self) -> dict[str, str]:
        """Polls the dependencies now, without waiting for the next turn; returns the problems by name."""
        return await self._upkeep.monitor.poll()

    async def stop(self) -> None:
        """Reports NOT_SERVING, then takes no new call, lets those in flight finish within the drain, closes clients.

        A call that does not finish in time gives up what it holds, and answers UNAVAILABLE, before anything closes.
        """
        await self._upkeep.announce_stop()
        closing = asyncio.create_task(self._grpc.stop(self._settings.drain_s + CLEAN_UP_S))
        await asyncio.sleep(0)  # it refuses new calls from here on
        await self._interceptor.finish(self._settings.drain_s, CLEAN_UP_S)
        if not (await asyncio.wait({closing}, timeout=FLUSH_S))[0]:
            await self._grpc.stop(None)  # of calls, only those are left whose answers nobody reads
        await closing
        await self._upkeep.stop()
        _log.info("stopped")

    async def run(self) -> None:
        """Serves until SIGTERM, SIGINT or SIGHUP, then drains; under nohup, a SIGHUP is ignored."""
        stopping = until_told()
        await self.start()
        await stopping.wait()
        await self.stop()


def _limits(settings: RuntimeSettings) -> Limits:
    return Limits(
        max_calls=settings.max_concurrent_calls,
        max_client_calls=max(1, round(settings.client_share * settings.max_concurrent_calls)),
        max_clients_calls=max(1, settings.max_concurrent_calls - -(-settings.max_concurrent_calls // PARTS_SHARE)),
        max_watches=settings.max_watches,
        max_answer_bytes=settings.max_message_bytes,
        default_deadline_s=settings.default_deadline_s,
        max_deadline_s=_longest_s(settings),
        write_timeout_s=settings.write_timeout_s,
    )


def _longest_s(settings: RuntimeSettings) -> float:
    return max(settings.max_deadline_s, settings.default_deadline_s)


def _options(settings: RuntimeSettings) -> list[tuple[str, int]]:
    """gRPC's bounds of connections and messages."""
    seconds = {
        "grpc.keepalive_time_ms": settings.keepalive_s,
        "grpc.keepalive_timeout_ms": min(settings.keepalive_s, PROBE_WAIT_S),
        "grpc.http2.ping_timeout_ms": min(settings.keepalive_s, PROBE_WAIT_S),
        "grpc.http2.min_ping_interval_without_data_ms": min(settings.keepalive_s, LEAST_PING_PAUSE_S),
        "grpc.max_connection_idle_ms": settings.max_connection_idle_s,
        "grpc.max_connection_age_ms": settings.max_connection_age_s,
        "grpc.max_connection_age_grace_ms": _longest_s(settings),  # no call in flight is cut off
        "grpc.server_handshake_timeout_ms": HANDSHAKE_S,
    }
    return [
        *((name, round(value * 1000)) for name, value in seconds.items()),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_concurrent_streams", max(settings.max_concurrent_calls, LEAST_STREAMS)),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A token for a thousand merchants; between the two, gRPC would refuse by chance.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        # Only identity: gRPC would unfold a compressed request in memory before it looks at its size.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Two servers on one port would share its calls silently; better that the second fails to start.
        ("grpc.so_reuseport", 0),
    ]
