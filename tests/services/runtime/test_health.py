"""Health by method: who is served while what is down, how soon it shows, and what watchers hear."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import user_embedding_service_pb2 as pb
from prometheus_client import CollectorRegistry

from services.runtime.errors import Unavailable
from services.runtime.health import (
    LIVENESS,
    READINESS,
    Dependency,
    HealthMonitor,
    HealthServicer,
    check_needs,
    methods_of,
)
from services.runtime.metrics import HealthMetrics

SERVICE = pb.DESCRIPTOR.services_by_name["UserEmbeddingService"].full_name
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
LONG_S = 20.0  # more than any of this takes


class Part:
    """Something that methods need; `down` says what is wrong with it, and `hangs` that it does not answer."""

    def __init__(self, name: str) -> None:
        self.down = ""
        self.hangs = False
        self.checks = 0
        self.dependency = Dependency(name, self._check)

    async def _check(self) -> None:
        self.checks += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.down:
            raise Unavailable(self.dependency.name, self.down)


class Parts:
    """A database that is read and written, and Triton."""

    def __init__(self) -> None:
        self.reads, self.writes, self.triton = Part("database for reading"), Part("database"), Part("triton")
        self.needs = {
            "PutUserProfile": [self.writes.dependency],
            "GetUserProfile": [self.reads.dependency],
            "GetUserEmbedding": [self.reads.dependency, self.triton.dependency],
            "BatchGetUserEmbeddings": [self.reads.dependency, self.triton.dependency],
        }


def monitor_of(
    needs: dict[str, list[Dependency]], interval_s: float = 3600.0, timeout_s: float = LONG_S
) -> tuple[HealthMonitor, HealthServicer, CollectorRegistry]:
    servicer, registry = HealthServicer(), CollectorRegistry()
    monitor = HealthMonitor(
        servicer, SERVICE, needs, HealthMetrics(registry), interval_s=interval_s, timeout_s=timeout_s
    )
    return monitor, servicer, registry


@asynccontextmanager
async def asked(servicer: HealthServicer) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    """The health service over a real connection."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    await server.stop(0)


def name_of(method: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=f"{SERVICE}/{method}" if method in methods_of(SERVICE) else method)


async def served(servicer: HealthServicer) -> set[str]:
    """Every name that is SERVING, a method by its own name."""
    async with asked(servicer) as stub:
        names = ["", SERVICE, READINESS, LIVENESS, *methods_of(SERVICE)]
        return {name for name in names if (await stub.Check(name_of(name))).status == SERVING}


ALL = {"", SERVICE, READINESS, LIVENESS, *methods_of(SERVICE)}


@pytest.mark.parametrize(
    ("broken", "still_served"),
    [
        ([], ALL),
        (["triton"], {READINESS, LIVENESS, "PutUserProfile", "GetUserProfile"}),
        (["writes"], {READINESS, LIVENESS, "GetUserProfile", "GetUserEmbedding", "BatchGetUserEmbeddings"}),
        (["reads"], {READINESS, LIVENESS, "PutUserProfile"}),
        (["reads", "writes"], {LIVENESS}),
    ],
)
async def test_a_method_is_served_just_while_what_it_needs_answers(broken: list[str], still_served: set[str]) -> None:
    parts = Parts()
    monitor, servicer, registry = monitor_of(parts.needs)
    assert await served(servicer) == {LIVENESS}, "before the first answer nothing is known"
    await monitor.poll()
    assert await served(servicer) == ALL
    down: list[Part] = [getattr(parts, name) for name in broken]
    for part in down:
        part.down = "is away"
    assert await monitor.poll() == {part.dependency.name: f"{part.dependency.name} is away" for part in down}
    assert await served(servicer) == still_served
    for method in methods_of(SERVICE):
        ready = registry.get_sample_value("perfusion_method_ready", {"method": f"/{SERVICE}/{method}"})
        assert ready == float(method in still_served)
    for part in down:
        assert registry.get_sample_value("perfusion_dependency_up", {"dependency": part.dependency.name}) == 0
        part.down = ""
    await monitor.poll()
    assert await served(servicer) == ALL


async def test_one_that_hangs_delays_no_other() -> None:
    parts = Parts()
    parts.triton.hangs = True
    monitor, servicer, _ = monitor_of(parts.needs, interval_s=0.01, timeout_s=3600)
    running = asyncio.create_task(monitor.run())
    async with asked(servicer) as stub, asyncio.timeout(LONG_S):
        for status in (SERVING, NOT_SERVING, SERVING):
            parts.writes.down = "" if status == SERVING else "is full"
            async for answer in stub.Watch(name_of("PutUserProfile")):
                if answer.status == status:
                    break
        assert (await stub.Check(name_of("GetUserEmbedding"))).status == NOT_SERVING
    running.cancel()


async def test_one_that_hangs_is_not_serving_after_its_time() -> None:
    parts = Parts()
    monitor, servicer, _ = monitor_of(parts.needs, timeout_s=1.0)
    await monitor.poll()
    parts.triton.hangs = True
    assert await monitor.poll() == {"triton": "no answer in 1.0 s"}
    assert await served(servicer) == {READINESS, LIVENESS, "PutUserProfile", "GetUserProfile"}


async def test_a_check_that_cancels_itself_is_a_problem_and_comes_again() -> None:
    cancels = [True]

    async def check() -> None:
        if cancels:
            raise asyncio.CancelledError

    needs = {method: [Dependency("store", check)] for method in methods_of(SERVICE)}
    monitor, servicer, _ = monitor_of(needs, interval_s=0.01)
    assert await monitor.poll() == {"store": "gave up its check"}
    running = asyncio.create_task(monitor.run())
    cancels.clear()
    async with asked(servicer) as stub, asyncio.timeout(LONG_S):
        async for answer in stub.Watch(name_of("")):
            if answer.status == SERVING:
                break
    running.cancel()


async def test_a_doubt_has_the_needs_checked_at_once() -> None:
    parts = Parts()
    monitor, servicer, _ = monitor_of(parts.needs)  # polls every hour
    running = asyncio.create_task(monitor.run())
    async with asked(servicer) as stub, asyncio.timeout(LONG_S):
        watch = stub.Watch(name_of("GetUserEmbedding"))
        heard = []
        async for answer in watch:
            heard.append(answer.status)
            if answer.status == SERVING:
                parts.triton.down = "is away"
                monitor.doubt(f"{SERVICE}/GetUserEmbedding")
            elif SERVING in heard:
                break
        assert heard in ([NOT_SERVING, SERVING, NOT_SERVING], [SERVING, NOT_SERVING])
        assert parts.writes.checks == 1, "it is not what the method needs"
    monitor.stop()
    async with asyncio.timeout(LONG_S):
        await running


async def test_watchers_hear_of_each_change_also_when_another_has_left() -> None:
    servicer = HealthServicer()
    servicer.set("a", serving=True)
    async with asked(servicer) as stub, asyncio.timeout(LONG_S):
        stays, leaves = (stub.Watch(health_pb2.HealthCheckRequest(service="a")) for _ in range(2))
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="b"))
        assert [(await watch.read()).status for watch in (stays, leaves)] == [SERVING, SERVING]
        assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        leaves.cancel()
        servicer.set("b", serving=True)
        assert (await unknown.read()).status == SERVING
        for serving in (False, True):
            servicer.set("a", serving=serving)
            assert (await stays.read()).status == (SERVING if serving else NOT_SERVING)


async def test_after_a_stop_nothing_is_serving_but_the_process_and_watches_end() -> None:
    servicer = HealthServicer()
    servicer.set("a", serving=True)
    async with asked(servicer) as stub, asyncio.timeout(LONG_S):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="a"))
        assert (await watch.read()).status == SERVING
        servicer.stop()
        servicer.set("a", serving=True)
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() == cast(object, grpc.aio.EOF)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="a"))).status == NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS))).status == SERVING


async def test_a_name_nobody_knows_is_not_found() -> None:
    async with asked(HealthServicer()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="perfusion.v1.Nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_method_without_a_row_is_refused() -> None:
    for wrong in ({}, {name: [] for name in (*methods_of(SERVICE), "Forget")}):
        with pytest.raises(ValueError, match="GetUserEmbedding"):
            check_needs(SERVICE, wrong)
    check_needs(SERVICE, {name: [] for name in methods_of(SERVICE)})


def test_two_dependencies_of_one_name_are_refused() -> None:
    needs = {method: [Part("database").dependency] for method in methods_of(SERVICE)}
    with pytest.raises(ValueError, match="database"):
        monitor_of(needs)
