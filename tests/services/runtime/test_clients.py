"""Calls to another service: what remains of the deadline and the trace go along; its errors become ours."""

import asyncio

import grpc
import pytest
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub

from contract import tracing
from services.runtime import clients, errors
from services.runtime.clients import RenewedChannel, call, open_channel
from services.runtime.deadlines import deadline_in, remaining_s
from tests.services.running import running
from tests.services.runtime.scripted import Behaviour, server_doing


async def answer_of(behaviour: Behaviour, timeout_s: float = 5.0) -> pb.RankResponse:
    async with running(server_doing(behaviour)) as channel:
        stub = RankingServiceStub(channel)
        return await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("raised", "understood"),
    [
        (errors.InvalidArgument(("images[2]", "is broken")), errors.InvalidArgument),
        (errors.NotFound("no such user"), errors.NotFound),
        (errors.FailedPrecondition("release 9 is not loaded"), errors.FailedPrecondition),
        (errors.Unavailable("triton"), errors.Unavailable),
        (errors.ResourceExhausted("full"), errors.Unavailable),
        (RuntimeError("their fault"), grpc.aio.AioRpcError),
    ],
)
async def test_their_errors_become_ours(raised: Exception, understood: type[Exception]) -> None:
    async def fail() -> None:
        raise raised

    with pytest.raises(understood) as caught:
        await answer_of(fail)
    if isinstance(caught.value, errors.InvalidArgument):
        assert caught.value.violations == (("images[2]", "is broken"),)


async def test_deadline_and_trace_go_along() -> None:
    seen: list[tuple[float, str]] = []

    async def look() -> None:
        seen.append((remaining_s(60), tracing.trace_id()))

    with tracing.entry("a call"), deadline_in(3.0):
        await answer_of(look, timeout_s=50.0)
        ours = tracing.trace_id()
    [(left_s, trace)] = seen
    assert 0 < left_s < 3.1  # gRPC rounds a timeout up on its way
    assert trace == ours


async def test_calls_are_shared_out_among_replicas() -> None:
    answered = [0, 0]

    def counting(replica: int) -> Behaviour:
        async def count() -> None:
            answered[replica] += 1

        return count

    servers = [server_doing(counting(0)), server_doing(counting(1))]
    async with running(servers[0]), running(servers[1]):
        name = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)  # as a name with two addresses
        async with open_channel(name, max_message_bytes=2**20, certificates=None) as channel:
            stub = RankingServiceStub(channel)
            for _ in range(40):
                await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=5.0)
    assert min(answered) >= 10


async def slow() -> None:
    await asyncio.sleep(30)


async def test_our_callers_time_running_out_is_not_the_dependencys_fault() -> None:
    with deadline_in(0.2), pytest.raises(errors.DeadlineExceeded):
        await answer_of(slow)


async def test_a_dependency_slower_than_its_limit_is_unavailable() -> None:
    with pytest.raises(errors.Unavailable, match="took too long"):
        await answer_of(slow, timeout_s=0.2)


async def test_a_restarted_service_is_found_again() -> None:
    async def nothing() -> None:
        pass

    first = server_doing(nothing)
    await first.start()
    async with open_channel(f"127.0.0.1:{first.port}", max_message_bytes=2**20, certificates=None) as channel:
        stub = RankingServiceStub(channel)
        await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=5)
        await first.stop()
        with pytest.raises(errors.Unavailable):
            await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=5)
        async with running(server_doing(nothing, port=first.port)):
            for _ in range(50):
                try:
                    await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=5)
                    return
                except errors.Unavailable:
                    await asyncio.sleep(0.1)
    pytest.fail("the restarted service was not found within 5 s")


async def test_a_channel_whose_name_had_no_address_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC itself asks a name server again after up to two minutes."""
    monkeypatch.setattr(clients, "RENEW_S", 0.1)
    names = ["nowhere.invalid:1"]

    async def answer() -> None:
        pass

    async with running(server_doing(answer)) as living:
        opened: list[grpc.aio.Channel] = []

        def open_one() -> grpc.aio.Channel:
            opened.append(grpc.aio.insecure_channel(names.pop()) if names else living)
            return opened[-1]

        stub = RankingServiceStub(RenewedChannel(open_one))

        async def ask() -> None:
            await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=5.0)

        with pytest.raises(errors.Unavailable):
            await ask()
        assert len(opened) == 1
        async with asyncio.timeout(20.0):
            while True:
                try:
                    await ask()
                    break
                except errors.Unavailable:
                    await asyncio.sleep(0.05)
        assert len(opened) == 2
        await ask()
        assert len(opened) == 2  # one that works stays


async def replaced(
    monkeypatch: pytest.MonkeyPatch, living: grpc.aio.Channel
) -> tuple[RenewedChannel, "asyncio.Future[pb.RankResponse]"]:
    """A channel that has left `living` for one to nowhere, and a call that is still on `living`."""
    states = [grpc.ChannelConnectivity.READY] + [grpc.ChannelConnectivity.TRANSIENT_FAILURE] * 3
    monkeypatch.setattr(living, "get_state", lambda *_: states.pop(0))
    others = [grpc.aio.insecure_channel("nowhere.invalid:1"), living]
    channel = RenewedChannel(lambda: others.pop())
    stub = RankingServiceStub(channel)
    early = asyncio.ensure_future(call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=30.0))
    await asyncio.sleep(0.1)
    for _ in range(2):
        with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
            await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=0.5)
    assert not others
    return channel, early


async def test_calls_of_a_channel_that_was_replaced_come_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "RENEW_S", 0.0)
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    async with running(server_doing(wait)) as living:
        _, early = await replaced(monkeypatch, living)
        go.set()
        await early


async def test_closing_ends_the_calls_of_channels_that_were_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "RENEW_S", 0.0)

    async def wait() -> None:
        await asyncio.sleep(30)

    async with running(server_doing(wait)) as living:
        channel, early = await replaced(monkeypatch, living)
        await channel.close()
        async with asyncio.timeout(5.0):
            with pytest.raises((errors.Unavailable, asyncio.CancelledError)):
                await early
