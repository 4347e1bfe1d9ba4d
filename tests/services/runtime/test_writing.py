"""Of answers that nobody reads only so many stay in memory."""

import asyncio

import grpc
from prometheus_client import CollectorRegistry

from tests.services.running import running
from tests.services.runtime.answering import Answering, server_of
from tests.services.runtime.test_interceptor_bounds import GENERATE, OWN, counted, unread_stream, until


async def test_of_too_many_unread_answers_the_oldest_ones_connection_is_closed() -> None:
    registry, most = CollectorRegistry(), 2
    server = server_of(Answering(), registry, max_concurrent_calls=most, write_timeout_s=0.2)
    async with running(server):
        clients, calls = [], []
        for number in range(1, 5):  # one after the other, so that their order is known
            clients.append(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OWN))
            calls.append(unread_stream(clients[-1]))
            await until(lambda number=number: counted(registry, GENERATE, "DEADLINE_EXCEEDED") == number)
        await until(lambda: len(server._interceptor._writer._unread) == most)
        codes = [await asyncio.wait_for(call.code(), 30) for call in calls[:2]]
        assert codes == [grpc.StatusCode.UNAVAILABLE] * 2
        assert not any(call.done() for call in calls[2:])
        for client, call in zip(clients, calls, strict=True):
            call.cancel()
            await client.close()
        await until(lambda: not server._interceptor._writer._unread)
