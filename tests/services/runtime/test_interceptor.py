"""What wraps every RPC: errors to statuses, the concurrency limit, deadlines, traces, metrics and logs."""

import asyncio
import json
import logging
import time

import grpc
import pytest
from perfusion.v1 import generation_service_pb2 as pb_generation
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from prometheus_client import CollectorRegistry

from contract import tracing
from services.runtime import errors
from services.runtime.deadlines import remaining_s
from services.runtime.logs import JsonFormatter
from services.runtime.statuses import INTERNAL_MESSAGE, reason_of
from tests.services.running import failing, running
from tests.services.runtime.answering import SERVICE as GENERATION
from tests.services.runtime.answering import Answering, server_of
from tests.services.runtime.scripted import server_doing

ASKED = pb.RankRequest()
ERRORS: list[tuple[errors.ServiceError, grpc.StatusCode, bool]] = [
    (errors.NotFound("no such user", field="user_id"), grpc.StatusCode.NOT_FOUND, False),
    (errors.AlreadyExists("used before"), grpc.StatusCode.ALREADY_EXISTS, False),
    (errors.PermissionDenied("not yours"), grpc.StatusCode.PERMISSION_DENIED, False),
    (errors.FailedPrecondition("release 9 is not loaded"), grpc.StatusCode.FAILED_PRECONDITION, False),
    (errors.Unavailable("triton"), grpc.StatusCode.UNAVAILABLE, True),
    (errors.ResourceExhausted("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, True),
    (errors.DeadlineExceeded(), grpc.StatusCode.DEADLINE_EXCEEDED, False),
]


@pytest.mark.parametrize(("error", "code", "retryable"), ERRORS, ids=[type(e[0]).__name__ for e in ERRORS])
async def test_an_error_reaches_the_caller_with_its_status(
    error: errors.ServiceError, code: grpc.StatusCode, retryable: bool
) -> None:
    async def fail() -> None:
        raise error

    async with running(server_doing(fail)) as channel, failing() as failure:
        await RankingServiceStub(channel).Rank(ASKED)
    assert (failure.code, failure.message, failure.retryable) == (code, error.message, retryable)
    assert failure.reason == reason_of(error)


async def test_an_invalid_argument_names_every_field() -> None:
    async def fail() -> None:
        raise errors.InvalidArgument(("prompt", "must not be empty"), ("images[0]", "is broken"))

    async with running(server_doing(fail)) as channel, failing() as failure:
        await RankingServiceStub(channel).Rank(ASKED)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields == {"prompt": "must not be empty", "images[0]": "is broken"}


async def test_a_fault_of_ours_says_nothing_but_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("password=hunter2")

    async with running(server_doing(fail)) as channel, failing() as failure:
        await RankingServiceStub(channel).Rank(ASKED)
    assert (failure.code, failure.message) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert "hunter2" in caplog.text


async def test_one_call_too_many_is_told_to_come_back() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await go_on.wait()

    async with running(server_doing(wait, max_concurrent_calls=1)) as channel:
        stub = RankingServiceStub(channel)
        first = stub.Rank(ASKED)
        await entered.wait()
        async with failing() as failure:
            await stub.Rank(ASKED)
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        go_on.set()
        assert (await first).release == 1
        assert (await stub.Rank(ASKED)).release == 1  # the place is free again


async def test_the_callers_deadline_is_what_remains() -> None:
    seen: list[float] = []

    async def look() -> None:
        seen.append(remaining_s(60.0))

    async with running(server_doing(look, default_deadline_s=30.0)) as channel:
        stub = RankingServiceStub(channel)
        await stub.Rank(ASKED, timeout=5.0)
        await stub.Rank(ASKED)
    assert 0 < seen[0] < 5.1  # gRPC rounds a timeout up on its way
    assert 10.0 < seen[1] <= 30.0


async def test_the_callers_trace_is_taken_over() -> None:
    seen: list[str] = []

    async def look() -> None:
        seen.append(tracing.trace_id())

    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with running(server_doing(look)) as channel:
        stub = RankingServiceStub(channel)
        await stub.Rank(ASKED, metadata=(("traceparent", f"00-{theirs}-00f067aa0ba902b7-01"),))
        await stub.Rank(ASKED, metadata=(("traceparent", "garbage"),))
        await stub.Rank(ASKED)
    assert seen[0] == theirs
    assert len(set(seen)) == 3 and all(len(trace) == 32 for trace in seen)


async def test_cancelling_reaches_the_work() -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(server_doing(wait)) as channel:
        call = RankingServiceStub(channel).Rank(ASKED)
        await entered.wait()
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_log_line_is_json_with_the_trace_id() -> None:
    record = logging.makeLogRecord({"msg": "made %s", "args": ("a group",), "levelname": "INFO", "name": "here"})
    record.latency_s = 0.5
    with tracing.entry("a call", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]):
        line = json.loads(JsonFormatter("generation").format(record))
    assert line["message"] == "made a group" and line["service"] == "generation" and line["latency_s"] == 0.5
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_every_answer_carries_its_trace_id() -> None:
    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = (("traceparent", f"00-{theirs}-00f067aa0ba902b7-01"),)
    servicer = Answering()
    servicer.gives = lambda request: pb_generation.GetGroupResponse() if not request.group_id else None
    async with running(server_of(servicer)) as channel:
        stub = GenerationServiceStub(channel)
        unary = stub.GetGroup(pb_generation.GetGroupRequest(), metadata=sent)
        await unary
        stream = stub.Generate(pb_generation.GenerateRequest(), metadata=sent)
        async for _ in stream:
            pass
        for call in (unary, stream):
            assert dict(await call.trailing_metadata())["trace-id"] == theirs
        for request, method in ((b"\xff", "GetGroup"), (b"\x0a\x01g", "GetGroup"), (b"", "ListGroups"), (b"", "None")):
            async with failing() as failure:
                await channel.unary_unary(f"/{GENERATION}/{method}")(request, metadata=sent)
            assert failure.trace_id == theirs


async def test_a_refused_calls_log_line_names_field_reason_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def refuse(_: object) -> None:
        raise errors.NotFound("group_id: there is no such group", field="group_id")

    servicer = Answering()
    servicer.gives = refuse
    async with running(server_of(servicer)) as channel, failing():
        await GenerationServiceStub(channel).GetGroup(pb_generation.GetGroupRequest(group_id="a\nb\x1b[31m"))
    [record] = [record for record in caplog.records if record.message.endswith("GetGroup NOT_FOUND")]
    line = JsonFormatter("generation").format(record)
    said = json.loads(line)
    assert (said["reason"], said["field"], said["group_id"]) == ("NOT_FOUND", "group_id", "a\nb\x1b[31m")
    assert said["problem"] == "group_id: there is no such group"
    assert "\n" not in line and "\x1b" not in line


async def test_latency_is_counted_by_status() -> None:
    registry, servicer = CollectorRegistry(), Answering()
    servicer.gives = lambda request: pb_generation.GetGroupResponse() if not request.group_id else None
    async with running(server_of(servicer, registry)) as channel:
        stub = GenerationServiceStub(channel)
        await stub.GetGroup(pb_generation.GetGroupRequest())
        async with failing():
            await stub.GetGroup(pb_generation.GetGroupRequest(group_id="g"))
    for code in ("OK", "INTERNAL"):
        labels = {"method": f"/{GENERATION}/GetGroup", "code": code}
        assert registry.get_sample_value("perfusion_rpc_latency_seconds_count", labels) == 1


async def test_grpcs_own_retries_wait_as_long_as_retry_info_says() -> None:
    times: list[float] = []

    def refuse_once(_: object) -> pb_generation.GetGroupResponse:
        times.append(time.monotonic())
        if len(times) == 1:
            raise errors.Unavailable("triton")
        return pb_generation.GetGroupResponse()

    servicer = Answering()
    servicer.gives = refuse_once
    policy = {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1}
    retries = {"name": [{}], "retryPolicy": policy | {"retryableStatusCodes": ["UNAVAILABLE"]}}
    options = [("grpc.service_config", json.dumps({"methodConfig": [retries]}))]
    server = server_of(servicer)
    async with running(server), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        await GenerationServiceStub(channel).GetGroup(pb_generation.GetGroupRequest())
    assert len(times) == 2 and times[1] - times[0] >= 0.9
