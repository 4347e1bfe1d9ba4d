"""Health: a service is SERVING only while every named dependency answers its last poll.

It knows polling and reporting. Each dependency's check knows how to test the dependency.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from services.runtime.metrics import DependencyMetrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dependency:
    """A part the service cannot work without. `check` returns when it works, and raises saying why it does not."""

    name: str
    check: Callable[[], Awaitable[None]]


class HealthMonitor:
    """Polls the dependencies and sets the standard health service's status for "" and each service name."""

    def __init__(
        self,
        servicer: HealthServicer,
        services: Sequence[str],
        dependencies: Sequence[Dependency],
        metrics: DependencyMetrics,
        *,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        self._servicer = servicer
        self._services = ("", *services)
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._problems: dict[str, str] | None = None
        self._stopping = asyncio.Event()
        self._polling = asyncio.Lock()  # of two polls at once, the slower would report what is no longer so

    async def start(self) -> None:
        """Before the first poll nothing is known, so nothing is served."""
        await self._report(serving=False)

    async def run(self) -> None:
        """Polls until `stop`."""
        while not self._stopping.is_set():
            await self.poll()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Lets `run` end after the poll under way: one cut off could leave a client's connection half made."""
        self._stopping.set()

    async def poll(self) -> dict[str, str]:
        """Checks every dependency once, together. Returns the problems by name; none means SERVING.

        A problem names its cause, for the log alone: health's clients hear only whether we serve.
        """
        async with self._polling:
            return await self._poll()

    async def _poll(self) -> dict[str, str]:
        answers = await asyncio.gather(*(self._problem(dependency) for dependency in self._dependencies))
        problems = {
            dependency.name: problem
            for dependency, problem in zip(self._dependencies, answers, strict=True)
            if problem is not None
        }
        for dependency in self._dependencies:
            self._metrics.up.labels(dependency.name).set(dependency.name not in problems)
        if problems != self._problems:
            _log.info("health", extra={"serving": not problems, "problems": problems})
        self._problems = problems
        await self._report(serving=not problems)
        return problems

    async def _problem(self, dependency: Dependency) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await dependency.check()
        except TimeoutError:
            return f"no answer in {self._timeout_s} s"
        except Exception as error:  # whatever a dependency's client raises, it means: does not work
            cause = f" ({error.__cause__!r})" if error.__cause__ is not None else ""
            return (str(error) or type(error).__name__) + cause
        return None

    async def _report(self, *, serving: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        for service in self._services:
            await self._servicer.set(service, kinds.SERVING if serving else kinds.NOT_SERVING)
