"""What runs beside the calls of a server: health's polling, metrics and probes over HTTP, the service's own workers.

It knows in which order these begin and end. It does not know what is served, nor by which protocol.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry

from services.runtime.certificates import Certificates
from services.runtime.exposition import Exposition
from services.runtime.health import HealthMonitor, HealthServicer, Needs
from services.runtime.metrics import CertificateMetrics, HealthMetrics, KafkaCertificateMetrics, SpanMetrics
from services.runtime.settings import KafkaAddress, ProcessSettings
from services.runtime.workers import Worker

CLOSE_S = 4.0  # for all that is closed at the end

_log = logging.getLogger(__name__)


class Upkeep:
    """One server's. `workers` run until `stop`, and `closers` last."""

    def __init__(
        self,
        settings: ProcessSettings,
        service: str,
        needs: Needs,
        registry: CollectorRegistry,
        *,
        workers: Sequence[Worker],
        closers: Sequence[Callable[[], Awaitable[None]]],
        certificates: Certificates | None,
    ) -> None:
        self._settings = settings
        self._workers = tuple(workers)
        self._closers = tuple(closers)
        self.health = HealthServicer()
        self.monitor = HealthMonitor(
            self.health,
            service,
            needs,
            HealthMetrics(registry),
            interval_s=settings.health_interval_s,
            timeout_s=settings.health_timeout_s,
        )
        if certificates is not None:
            CertificateMetrics(registry).expires_s.set_function(lambda: certificates.current().expires.timestamp())
        if isinstance(settings, KafkaAddress) and settings.kafka_certificates is not None:
            for_kafka = Certificates(settings.kafka_certificates)
            metrics = KafkaCertificateMetrics(registry)
            metrics.expires_s.set_function(lambda: for_kafka.current().expires.timestamp())
        SpanMetrics(registry)
        self._exposition = Exposition(registry, self.health.is_served)
        self._polling: asyncio.Task[None] | None = None
        self._working: list[asyncio.Task[None]] = []

    @property
    def metrics_port(self) -> int:
        """Where the metrics are shown, once they are exposed."""
        return self._exposition.port

    async def expose(self) -> None:
        """Shows metrics and probes; raises CannotListen."""
        await self._exposition.start(self._settings.host, self._settings.metrics_port)

    def start(self) -> None:
        """Polls, and lets the workers work."""
        self._polling = asyncio.create_task(self.monitor.run(), name="health")
        self._working = [asyncio.create_task(worker(), name="worker") for worker in self._workers]

    async def announce_stop(self) -> None:
        """Reports NOT_SERVING, for long enough that balancers hear of it before calls are refused."""
        self.health.stop()
        self.monitor.stop()
        await asyncio.sleep(self._settings.lame_duck_s)

    async def stop(self) -> None:
        """Ends everything, when no call is in flight any more."""
        for working in self._working:
            working.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        if self._polling is not None:
            await self._polling
        await self._exposition.stop()
        ends = asyncio.get_running_loop().time() + CLOSE_S
        for close in self._closers:
            try:
                async with asyncio.timeout_at(ends):
                    await close()
            except Exception:  # the others must close all the same, and one that hangs must not keep the process
                _log.exception("could not close everything")


def until_told() -> asyncio.Event:
    """Set by SIGTERM, SIGINT or SIGHUP; under nohup, a SIGHUP is ignored."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, told.set)
    return told
