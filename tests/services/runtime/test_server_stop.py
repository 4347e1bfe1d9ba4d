"""A stop: calls in flight finish, or give up what they hold and say so, before anything that they need is closed."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from prometheus_client import CollectorRegistry

from services.runtime import upkeep
from services.runtime.server import Server
from tests.services.running import failing
from tests.services.runtime.answering import Answering, server_of


class Held(Answering):
    """Streams that go on until they are ended; a database that says whether it was closed under them."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.is_open = True
        self.given_up: list[bool] = []  # for each stream, whether the database was open still
        self.streams, self.closing = self.held, self.give_up

    async def held(self) -> AsyncIterator[Any]:
        yield pb.GenerateResponse(accepted=pb.GenerateAccepted(group_id="g"))
        self.entered.set()
        await asyncio.sleep(3600)

    async def give_up(self) -> None:
        await asyncio.sleep(0.3)  # a database takes its time
        self.given_up.append(self.is_open)

    async def close(self) -> None:
        self.is_open = False

    async def fail(self) -> None:
        raise RuntimeError("this closer fails")


async def started(servicer: Held, **settings: Any) -> Server:
    server = server_of(servicer, CollectorRegistry(), [servicer.fail, servicer.close], **settings)
    await server.start()
    return server


@pytest.mark.parametrize("drain_s", [0.0, 0.5])
async def test_a_call_that_is_cut_off_cleans_up_first_and_says_when_to_come_back(drain_s: float) -> None:
    servicer = Held()
    server = await started(servicer, drain_s=drain_s)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel, failing() as failure:
        call = GenerationServiceStub(channel).Generate(pb.GenerateRequest())
        await call.read()
        await servicer.entered.wait()
        stopping = asyncio.create_task(server.stop())
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        finally:
            await stopping
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable and failure.trace_id
    assert (failure.reason, failure.message) == ("DEPENDENCY_UNAVAILABLE", "service is stopping")
    assert servicer.given_up == [True] and not servicer.is_open


async def test_a_stop_waits_neither_for_watchers_nor_for_who_does_not_read() -> None:
    servicer = Held()
    servicer.streams = Answering().streams
    server = await started(servicer, drain_s=60.0, write_timeout_s=0.2)
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        unread = GenerationServiceStub(channel).Generate(pb.GenerateRequest())
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        async with asyncio.timeout(30):
            while not servicer.given_up:
                await asyncio.sleep(0.02)
            await server.stop()
        unread.cancel()


async def test_nothing_is_left_after_a_stop() -> None:
    async def serve_and_stop() -> None:
        servicer = Held()
        server = await started(servicer, drain_s=0.0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            calls = [GenerationServiceStub(channel).Generate(pb.GenerateRequest()) for _ in range(5)]
            await asyncio.gather(*(call.read() for call in calls))
            reader, writer = await asyncio.open_connection("127.0.0.1", server.metrics_port)  # silent
            await server.stop()
            assert await reader.read() == b""
            writer.close()

    await serve_and_stop()  # gRPC keeps threads of its own from the first time on
    tasks, threads, descriptors = (len(each) for each in held())
    for _ in range(3):
        await serve_and_stop()
    async with asyncio.timeout(30):
        while [len(each) for each in held()] > [tasks, threads, descriptors]:
            await asyncio.sleep(0.05)


def held() -> tuple[Any, Any, Any]:
    return asyncio.all_tasks(), threading.enumerate(), os.listdir("/proc/self/fd")


async def test_after_a_stop_the_ports_are_free() -> None:
    first = await started(Held())
    ports = {"port": first.port, "metrics_port": first.metrics_port}
    await first.stop()
    second = await started(Held(), **ports)
    await second.stop()


async def test_what_cannot_be_closed_keeps_neither_the_others_nor_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "CLOSE_S", 0.1)
    closed = []

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        closed.append("fails")
        raise RuntimeError("cannot close")

    async def closes() -> None:
        closed.append("closes")

    server = server_of(Held(), closers=[fails, hangs, closes], drain_s=0.0)
    await server.start()
    async with asyncio.timeout(30):
        await server.stop()
    assert closed == ["fails", "closes"]
