"""A server's life: health that tells the truth, reflection, metrics, and a stop that drains."""

import asyncio
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub

from services.runtime.clients import check_serving
from services.runtime.errors import Unavailable
from services.runtime.health import Dependency
from tests.services.running import running
from tests.services.runtime.scripted import SERVICE, server_doing

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Part:
    """A dependency that works, fails, or hangs."""

    def __init__(self) -> None:
        self.state = "works"

    async def check(self) -> None:
        if self.state == "fails":
            raise ConnectionError("refused")
        if self.state == "hangs":
            await asyncio.sleep(60)


async def status(channel: grpc.aio.Channel, service: str) -> int:
    return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_it_serves_just_while_every_dependency_answers() -> None:
    part, other = Part(), Part()
    dependencies = [Dependency("part", part.check), Dependency("other", other.check)]
    server = server_doing(dependencies=dependencies, health_timeout_s=1.0)
    async with running(server) as channel:
        for state, problem in (("works", None), ("fails", "refused"), ("works", None), ("hangs", "no answer in 1.0 s")):
            part.state = state
            assert await server.poll_health() == ({"part": problem} if problem else {})
            for service in ("", SERVICE):
                assert await status(channel, service) == (NOT_SERVING if problem else SERVING)


async def test_before_the_first_answer_it_does_not_serve() -> None:
    part = Part()
    part.state = "hangs"
    server = server_doing(dependencies=[Dependency("part", part.check)], health_timeout_s=0.5)
    async with running(server) as channel:
        assert await status(channel, SERVICE) == NOT_SERVING


async def test_callers_can_ask_for_its_health() -> None:
    part = Part()
    server = server_doing(dependencies=[Dependency("part", part.check)])
    async with running(server) as channel:
        await server.poll_health()
        await check_serving(channel, SERVICE, name="ranking", timeout_s=2)
        part.state = "fails"
        await server.poll_health()
        with pytest.raises(Unavailable, match="ranking"):
            await check_serving(channel, SERVICE, name="ranking", timeout_s=2)
    with pytest.raises(Unavailable, match="ranking"):
        async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
            await check_serving(nowhere, SERVICE, name="ranking", timeout_s=2)


async def test_reflection_lists_the_service() -> None:
    async with running(server_doing()) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        async for answer in call:
            names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_metrics_are_shown_in_prometheus_text() -> None:
    server = server_doing(dependencies=[Dependency("part", Part().check)])
    async with running(server) as channel:
        await server.poll_health()
        await RankingServiceStub(channel).Rank(pb.RankRequest())
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    assert f'perfusion_rpc_handled_total{{code="OK",method="/{SERVICE}/Rank"}} 1.0' in text
    first = f'perfusion_rpc_handled_total{{code="INTERNAL",method="/{SERVICE}/Rank"}} 0.0'
    assert first in text, "an alert would not see the first"
    assert 'perfusion_dependency_up{dependency="part"} 1.0' in text


async def test_a_stop_lets_the_call_in_flight_finish() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await go_on.wait()

    server = server_doing(wait, drain_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = RankingServiceStub(channel).Rank(pb.RankRequest())
        await entered.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)
        go_on.set()
        assert (await call).release == 1
        await stopping


async def test_a_lame_duck_says_so_and_still_serves() -> None:
    server = server_doing(lame_duck_s=2.0)
    async with running(server) as channel:
        await server.poll_health()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)
        assert await status(channel, SERVICE) == NOT_SERVING
        await RankingServiceStub(channel).Rank(pb.RankRequest())
        await stopping


async def test_a_port_in_use_is_refused() -> None:
    first = server_doing()
    async with running(first):
        with pytest.raises(RuntimeError):
            await server_doing(port=first.port).start()
