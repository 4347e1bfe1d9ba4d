"""What a caller can take of a server: places, time, memory, and the form of what it sends."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from prometheus_client import CollectorRegistry

from services.runtime.decoding import MAX_FIELDS
from services.runtime.statuses import INTERNAL_MESSAGE
from tests.services.running import failing, running
from tests.services.runtime.answering import PICTURE, SERVICE, Answering, server_of

GENERATE, GET_GROUP = f"/{SERVICE}/Generate", f"/{SERVICE}/GetGroup"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
BIG = pb.GetGroupRequest(group_id="big")
# A connection of its own for each client, whose window stays small.
OWN = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0), ("grpc.max_receive_message_length", -1))


def counted(registry: CollectorRegistry, method: str, code: str) -> float:
    return registry.get_sample_value("perfusion_rpc_handled_total", {"method": method, "code": code}) or 0.0


def in_flight(registry: CollectorRegistry) -> float:
    samples = [s for metric in registry.collect() for s in metric.samples if s.name == "perfusion_rpc_in_flight"]
    return sum(sample.value for sample in samples)


async def until(holds: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def answering() -> Answering:
    servicer = Answering()
    big = pb.GetGroupResponse(group={"candidates": [{"png": PICTURE}] * 8})
    servicer.gives = lambda request: big if request == BIG else pb.GetGroupResponse()
    return servicer


def unread_stream(channel: grpc.aio.Channel) -> Any:
    return GenerationServiceStub(channel).Generate(pb.GenerateRequest())


def unread_answer(channel: grpc.aio.Channel) -> Any:
    """A unary call made as a stream, because a unary one reads its answer as soon as it comes."""
    return channel.unary_stream(GET_GROUP)(BIG.SerializeToString())


def unsent_request(channel: grpc.aio.Channel) -> Any:
    return channel.stream_unary(GET_GROUP)()


BOUNDS = [{"write_timeout_s": 1.0, "default_deadline_s": 2.0}, {"default_deadline_s": 1.0}]


@pytest.mark.parametrize("begin", [unread_stream, unread_answer, unsent_request])
@pytest.mark.parametrize("bound", BOUNDS, ids=["written", "deadline"])
async def test_a_caller_who_neither_reads_nor_sends_gives_its_place_back(begin: Any, bound: dict[str, float]) -> None:
    servicer, registry = answering(), CollectorRegistry()
    server = server_of(servicer, registry, max_concurrent_calls=3, **bound)
    async with running(server) as channel:
        slow = [grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OWN) for _ in range(3)]
        calls = [begin(each) for each in slow]
        await until(lambda: in_flight(registry) == 3)
        await until(lambda: in_flight(registry) == 0)
        method = GENERATE if begin is unread_stream else GET_GROUP
        assert counted(registry, method, "DEADLINE_EXCEEDED") == 3
        assert servicer.ended == (3 if begin is unread_stream else 0)
        await GenerationServiceStub(channel).GetGroup(pb.GetGroupRequest())
        for call, each in zip(calls, slow, strict=True):
            call.cancel()
            await each.close()


async def test_who_reads_on_after_its_time_learns_why_its_stream_ended() -> None:
    registry = CollectorRegistry()
    server = server_of(answering(), registry, write_timeout_s=0.5)
    async with (
        running(server),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OWN) as slow,
        failing() as failure,
    ):
        call = unread_stream(slow)
        await until(lambda: counted(registry, GENERATE, "DEADLINE_EXCEEDED") == 1)
        async for _ in call:
            pass
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert "too slowly" in failure.message


async def test_no_deadline_is_longer_than_the_servers() -> None:
    registry = CollectorRegistry()
    server = server_of(answering(), registry, default_deadline_s=0.2, max_deadline_s=0.5)
    async with (
        running(server),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        failing() as failure,
    ):
        await channel.stream_unary(GET_GROUP)(timeout=3600)
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_caller_who_has_gone_leaves_no_task_behind(caplog: pytest.LogCaptureFixture) -> None:
    registry, before = CollectorRegistry(), len(asyncio.all_tasks())
    server = server_of(answering(), registry, write_timeout_s=0.3)
    async with running(server):
        idle = len(asyncio.all_tasks())
        for begin in (unread_stream, unread_answer) * 3:
            slow = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OWN)
            call = begin(slow)
            await until(lambda: in_flight(registry) == 1)
            if begin is unread_answer:
                await until(lambda: in_flight(registry) == 0)
            call.cancel()
            await slow.close()
        await until(lambda: in_flight(registry) == 0 and len(asyncio.all_tasks()) <= idle)
    assert len(asyncio.all_tasks()) <= before
    assert "Traceback" not in caplog.text and "never retrieved" not in caplog.text


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """How much the process's peak has grown, bytes."""
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    grown, before = [0], _peak()
    yield grown
    grown[0] = _peak() - before


def _peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


CLIENT = """
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.max_send_message_length", -1)])
try:
    channel.unary_unary(sys.argv[2])(bytes(int(sys.argv[3])), compression=grpc.Compression(int(sys.argv[4])))
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_request_is_refused_before_it_is_unfolded(compression: grpc.Compression) -> None:
    unfolded = 96 * 2**20
    server = server_of(answering())
    async with running(server):
        with peak_memory() as grown:  # the client has a process, and a peak, of its own
            arguments = (f"127.0.0.1:{server.port}", GET_GROUP, str(unfolded), str(compression.value))
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLIENT, *arguments, stdout=asyncio.subprocess.PIPE
            )
            said = (await client.communicate())[0].decode()
    assert said.startswith("UNIMPLEMENTED") and compression.name.lower() in said
    assert grown[0] < unfolded / 3


def texts(number: int, text: bytes) -> bytes:
    """A field on the wire."""
    return bytes([number << 3 | 2, len(text)]) + text


GBK = "红色连衣裙".encode("gbk")
MALFORMED = {
    "garbage": (GENERATE, b"\xff\xff\xff", "GenerateRequest"),
    "garbage in a unary call": (GET_GROUP, b"\xff\xff\xff", "GetGroupRequest"),
    "cut off": (GENERATE, pb.GenerateRequest(prompt="dress").SerializeToString()[:-2], "GenerateRequest"),
    "GBK": (GENERATE, texts(3, GBK), "prompt"),
    "GBK in a unary call": (GET_GROUP, texts(1, GBK), "group_id"),
    "GBK in a list": (GENERATE, texts(14, b"sequins") + texts(14, GBK), "refused_wishes"),
    "a number where text belongs": (GENERATE, b"\x1b\x1c", "GenerateRequest"),
    "an overlong number": (GENERATE, b"\x20" + b"\xff" * 11, "GenerateRequest"),
    "field 0": (GENERATE, b"\x02\x00", "GenerateRequest"),
    "many entries": (GENERATE, texts(14, b"") * (MAX_FIELDS + 1), "GenerateRequest"),
    "millions of entries": (GENERATE, texts(14, b"") * 2**22, "GenerateRequest"),
}


@pytest.mark.parametrize(("method", "data", "field"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_bytes_are_refused_as_every_wrong_field_is(
    method: str, data: bytes, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    async with running(server_of(answering(), registry)) as channel, failing() as failure:
        await anext(aiter(channel.unary_stream(method)(data)))
    assert (failure.code, failure.reason, set(failure.fields)) == (INVALID, "INVALID_ARGUMENT", {field})
    assert counted(registry, method, "INVALID_ARGUMENT") == 1
    assert "Error" not in failure.message and "Traceback" not in caplog.text
    [line] = [record for record in caplog.records if record.message == f"{method} INVALID_ARGUMENT"]
    assert line.__dict__["fields"] == [field]


async def test_a_call_without_a_message_is_refused() -> None:
    async def none() -> AsyncIterator[bytes]:
        for nothing in ():
            yield nothing

    async with running(server_of(answering())) as channel, failing() as failure:
        await channel.stream_unary(GET_GROUP)(none())
    assert (failure.code, failure.reason) == (INVALID, "INVALID_ARGUMENT")


async def test_malformed_bytes_to_health_and_reflection_are_refused_alike(caplog: pytest.LogCaptureFixture) -> None:
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with running(server_of(answering())) as channel:
        for method in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", reflection):
            async with failing() as failure:
                await anext(aiter(channel.unary_stream(method)(b"\xff\xff")))
            assert failure.code == INVALID and "Error" not in failure.message
    assert "Traceback" not in caplog.text


async def test_an_unknown_method_is_counted_but_chooses_no_label(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    async with running(server_of(answering(), registry)) as channel:
        for method in ("/perfusion.v1.GenerationService/Nothing", "/other/Thing"):
            async with failing() as failure:
                await channel.unary_unary(method)(b"")
            assert failure.code == grpc.StatusCode.UNIMPLEMENTED and failure.trace_id
        await until(lambda: counted(registry, "unknown", "UNIMPLEMENTED") == 2)  # after the caller has its answer


async def test_too_large_a_request_names_the_limit() -> None:
    async with running(server_of(answering(), max_request_bytes=2**20)) as channel, failing() as failure:
        await channel.unary_unary(GET_GROUP)(bytes(2**20 + 1))
    assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and "1048576" in failure.message


async def test_too_large_an_answer_names_the_limit_and_is_not_to_be_tried_again() -> None:
    async with running(server_of(answering(), max_message_bytes=2**20)) as channel, failing() as failure:
        await GenerationServiceStub(channel).GetGroup(BIG)
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert "1048576" in failure.message and not failure.retryable


async def test_an_answer_of_the_wrong_kind_is_a_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    servicer, registry = answering(), CollectorRegistry()
    servicer.gives = lambda _: None
    async with running(server_of(servicer, registry)) as channel, failing() as failure:
        await GenerationServiceStub(channel).GetGroup(pb.GetGroupRequest())
    assert (failure.code, failure.message) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert counted(registry, GET_GROUP, "INTERNAL") == 1 and "GetGroup failed" in caplog.text


async def test_streams_of_health_and_reflection_have_a_number_of_their_own() -> None:
    async with running(server_of(answering(), max_watches=2, max_concurrent_calls=1)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def silent() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            await asyncio.sleep(3600)

        watch = health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        info = reflection.ServerReflectionInfo(silent())
        await info.read()
        async with failing() as failure:
            await health.Watch(health_pb2.HealthCheckRequest()).read()
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        await health.Check(health_pb2.HealthCheckRequest())  # by which balancers and kubelets decide
        await GenerationServiceStub(channel).GetGroup(pb.GetGroupRequest())
        info.cancel()
        await until_readable(health)
        watch.cancel()


async def until_readable(health: health_pb2_grpc.HealthStub) -> None:
    """Until a stream is free again."""
    async with asyncio.timeout(30):
        while True:
            watch = health.Watch(health_pb2.HealthCheckRequest())
            try:
                await watch.read()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
            else:
                watch.cancel()
                return


async def test_too_much_metadata_is_refused() -> None:
    async with running(server_of(answering())) as channel, failing() as failure:
        metadata = tuple((f"key-{i}", "x" * 200) for i in range(200))
        await channel.unary_unary(GET_GROUP)(b"", metadata=metadata)
    assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # and empty settings


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["max_connection_idle_s", "max_connection_age_s", "keepalive_s"])
async def test_a_connection_that_is_idle_old_or_dead_is_closed(bound: str) -> None:
    server = server_of(answering(), **{bound: 1.0})
    async with running(server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(PREFACE)  # and nothing more, not even an answer to a ping
        async with asyncio.timeout(60):
            while await reader.read(4096):
                pass
        writer.close()


async def test_calls_go_on_over_a_connection_that_grows_old() -> None:
    registry = CollectorRegistry()
    async with running(server_of(answering(), registry, max_connection_age_s=1.0)) as channel:
        end = asyncio.get_running_loop().time() + 3
        while asyncio.get_running_loop().time() < end:
            await GenerationServiceStub(channel).GetGroup(pb.GetGroupRequest(), timeout=30)
    labels = {"method": GET_GROUP, "code": "OK"}
    samples = [s for m in registry.collect() for s in m.samples if s.name == "perfusion_rpc_handled_total"]
    assert [sample.labels for sample in samples if sample.value] == [labels]
