"""Health by name: each method is SERVING only while everything that it needs answers.

It knows polling and the standard protocol grpc.health.v1. Each dependency's check knows how to test the dependency, and
each service's `__main__` which method needs what. The names that can be asked for:

    perfusion.v1.GenerationService/GetGroup   one method
    perfusion.v1.GenerationService, ""        every method of the service
    readiness                                 at least one method
    liveness                                  the process and its event loop, until the process ends
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2

from services.runtime.metrics import HealthMetrics

LIVENESS, READINESS = "liveness", "readiness"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NOT_CHECKED = "not checked yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dependency:
    """What methods cannot work without. `check` returns when it works, and raises saying why it does not."""

    name: str
    check: Callable[[], Awaitable[None]]


Needs = Mapping[str, Sequence[Dependency]]  # by a method's own name, e.g. "GetGroup"


def methods_of(service: str) -> tuple[str, ...]:
    """The own names of a service's methods, e.g. of "perfusion.v1.RankingService"; its protos must be imported."""
    return tuple(descriptor_pool.Default().FindServiceByName(service).methods_by_name)


def check_needs(service: str, needs: Needs) -> None:
    """Raises ValueError unless `needs` names the methods of a gRPC service and no others."""
    if set(needs) != set(methods_of(service)):
        raise ValueError(f"needs names {sorted(needs)}; the methods of {service} are {sorted(methods_of(service))}")


class HealthServicer:
    """The standard health service over the statuses that `set` was given.

    grpcio's own forgets its other watchers when one leaves, and a watcher that does not read holds up everybody.
    """

    def __init__(self) -> None:
        self._statuses = {LIVENESS: SERVING}
        self._stopping = False
        self._changed = asyncio.Event()  # another one after each change

    def set(self, name: str, *, serving: bool) -> None:
        """Says it from now on, to those who ask and those who watch; after `stop`, nothing is serving any more."""
        status = SERVING if serving and not self._stopping else NOT_SERVING
        if self._statuses.get(name) != status:
            self._statuses[name] = status
            self._wake()

    def stop(self) -> None:
        """NOT_SERVING for every name but liveness; watchers hear it, and their streams end."""
        self._stopping = True
        for name in self._statuses:
            if name != LIVENESS:
                self._statuses[name] = NOT_SERVING
        self._wake()

    def is_served(self, name: str) -> bool | None:
        """As last set; None of a name that health does not know."""
        status = self._statuses.get(name)
        return None if status is None else status == SERVING

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            names = ", ".join(repr(name) for name in self._statuses)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"health knows the names {names}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        last = None
        while True:
            changed, stopping = self._changed, self._stopping
            status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            if stopping:
                return
            last = status
            await changed.wait()


class HealthMonitor:
    """Polls each dependency by itself, and says the status of every name after each answer.

    Raises:
        ValueError: `needs` gives one name to two checks.
    """

    def __init__(
        self,
        servicer: HealthServicer,
        service: str,
        needs: Needs,
        metrics: HealthMetrics,
        *,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        self._servicer = servicer
        self._service = service
        self._methods = {f"{service}/{method}": tuple(needed) for method, needed in needs.items()}
        self._metrics = metrics
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        dependencies = list(dict.fromkeys(each for needed in needs.values() for each in needed))
        if len({each.name for each in dependencies}) < len(dependencies):
            raise ValueError(f"each dependency needs a name of its own: {[each.name for each in dependencies]}")
        self._problems: dict[Dependency, str | None] = dict.fromkeys(dependencies, NOT_CHECKED)
        # Of two checks at once, the slower would report what is no longer so.
        self._checking = {each: asyncio.Lock() for each in dependencies}
        self._hurry = {each: asyncio.Event() for each in dependencies}
        self._stopping = False
        self._report()  # before the first answer nothing is known, so nothing is served

    async def run(self) -> None:
        """Polls until `stop`."""
        await asyncio.gather(*(self._watch(dependency) for dependency in self._problems))

    def stop(self) -> None:
        """Lets `run` end after the checks under way: one cut off could leave a client's connection half made."""
        self._stopping = True
        for hurry in self._hurry.values():
            hurry.set()

    def doubt(self, method: str) -> None:
        """A call of the method ("perfusion.v1.RankingService/Rank") was UNAVAILABLE: its needs are checked at once."""
        for dependency in self._methods.get(method, ()):
            if self._problems[dependency] is None:
                self._hurry[dependency].set()

    async def poll(self) -> dict[str, str]:
        """Checks every dependency once more, together. Returns the problems by name; none means SERVING.

        A problem names its cause, for the log alone: health's clients hear only what is served.
        """
        await asyncio.gather(*(self._check(dependency) for dependency in self._problems))
        return {each.name: problem for each, problem in self._problems.items() if problem is not None}

    async def _watch(self, dependency: Dependency) -> None:
        hurry = self._hurry[dependency]
        while not self._stopping:
            hurry.clear()
            await self._check(dependency)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await hurry.wait()

    async def _check(self, dependency: Dependency) -> None:
        async with self._checking[dependency]:
            problem = await self._problem(dependency)
            if problem == self._problems[dependency]:
                return
            self._problems[dependency] = problem
            not_served = self._report()
            said = {"dependency": dependency.name, "problem": problem, "not_served": not_served}
            _log.info("health", extra=said)

    async def _problem(self, dependency: Dependency) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await dependency.check()
        except TimeoutError:
            return f"no answer in {self._timeout_s} s"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "gave up its check"  # else this dependency would never be checked again
        except Exception as error:  # whatever a dependency's client raises, it means: does not work
            cause = f" ({error.__cause__!r})" if error.__cause__ is not None else ""
            return (str(error) or type(error).__name__) + cause
        return None

    def _report(self) -> list[str]:
        """Sets every name's status by what is known now; returns the methods that are not served."""
        for dependency, problem in self._problems.items():
            self._metrics.up.labels(dependency.name).set(problem is None)
        served = {method: all(self._problems[d] is None for d in needed) for method, needed in self._methods.items()}
        for method, serving in served.items():
            self._metrics.ready.labels(f"/{method}").set(serving)
            self._servicer.set(method, serving=serving)
        for name in ("", self._service):
            self._servicer.set(name, serving=all(served.values()))
        self._servicer.set(READINESS, serving=any(served.values()))
        return [method for method, serving in served.items() if not serving]
