"""Imports over real gRPC and SQLite: an answer for each pick in order, OK only when Kafka has it, and bounds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2 import (
    ImportFeedbackRequest,
    ImportFeedbackResponse,
    ListFeedbackRequest,
    SubmitFeedbackRequest,
)

from services.runtime.errors import Unavailable
from services.runtime.events import Event
from tests.services.feedback.desk import Desk, opened, pick
from tests.services.feedback.fakes import IMAGE_IDS, OWNER
from tests.services.running import failing


def part(*picks: SubmitFeedbackRequest) -> ImportFeedbackRequest:
    return ImportFeedbackRequest(requests=picks)


async def answers(desk: Desk, parts: Sequence[ImportFeedbackRequest]) -> list[ImportFeedbackResponse]:
    """Of a stream of these parts, to its end."""
    return [answer async for answer in desk.stub.ImportFeedback(iter(parts), timeout=60)]


def code_of(result: Any) -> str:
    if result.WhichOneof("outcome") == "response":
        return "OK"
    return str(code_pb2.Code.Name(status_pb2.Status.FromString(result.status).code))


def detail_of(result: Any, kind: Any) -> Any:
    """The one detail of this kind in a refused pick's status."""
    [packed] = [each for each in status_pb2.Status.FromString(result.status).details if each.Is(kind.DESCRIPTOR)]
    detail = kind()
    packed.Unpack(detail)
    return detail


async def test_each_pick_has_its_answer_in_order_and_a_bad_one_ends_nothing(desk: Desk) -> None:
    good, other, again = pick(), pick(selected_image_ids=[]), str(uuid4())
    parts = [
        part(good, pick(request_id="x", user_id=""), pick(group_id=str(uuid4()))),
        part(),
        part(pick(user_id="another"), pick(selected_image_ids=[str(uuid4())]), other, good),
        part(pick(request_id=again), pick(request_id=again, selected_image_ids=[IMAGE_IDS[4]])),
    ]
    told = await answers(desk, parts)
    assert [[code_of(result) for result in answer.results] for answer in told] == [
        ["OK", "INVALID_ARGUMENT", "NOT_FOUND"],
        [],
        ["PERMISSION_DENIED", "INVALID_ARGUMENT", "OK", "OK"],
        ["OK", "ALREADY_EXISTS"],
    ]
    bad = detail_of(told[0].results[1], error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["request_id", "user_id"]
    assert detail_of(told[0].results[2], error_details_pb2.ErrorInfo).reason == "NOT_FOUND"
    assert told[2].results[3].response == told[0].results[0].response
    events = [FeedbackGiven.FromString(event.value) for event in desk.kafka.taken]
    assert [event.request_id for event in events] == [good.request_id, other.request_id, again]
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)
    assert desk.kafka.taken[0].event_id == told[0].results[0].response.event_id


async def test_a_pick_of_spoiled_bytes_is_refused_alone_and_a_spoiled_message_ends_the_stream(
    desk: Desk,
) -> None:
    written = pick(user_id="spoiled").SerializeToString().replace(b"spoiled", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9")
    good = pick().SerializeToString()
    message = b"".join(b"\x0a" + bytes([len(each)]) + each for each in (good, written, good))
    call = desk.channel.stream_stream(
        "/perfusion.v1.FeedbackService/ImportFeedback", response_deserializer=ImportFeedbackResponse.FromString
    )(iter([message, b"\x0a\xff"]), timeout=60)
    answer = await call.read()
    assert [code_of(result) for result in answer.results] == ["OK", "INVALID_ARGUMENT", "OK"]
    async with failing() as failure:
        assert await call.read() is not None
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and list(failure.fields) == ["ImportFeedbackRequest"]


async def test_an_import_answers_as_submit_does_and_both_share_request_ids(desk: Desk) -> None:
    one = pick()
    [first] = await answers(desk, [part(one)])
    assert await desk.stub.SubmitFeedback(one) == first.results[0].response
    assert await answers(desk, [part(one)]) == [first]
    refused = pick(group_id="x")
    [answer] = await answers(desk, [part(refused)])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await desk.stub.SubmitFeedback(refused)
    trailers = dict(failure.value.trailing_metadata() or ())
    assert answer.results[0].status == trailers["grpc-status-details-bin"]
    assert len(desk.kafka.taken) == 1


async def test_picks_are_recorded_in_the_order_of_the_stream_whatever_their_lookups_take(desk: Desk) -> None:
    """The first part asks the generation service for the group, which takes its time; the later ones know it soon."""
    desk.generation.hold = asyncio.Event()
    picks = [pick(selected_image_ids=IMAGE_IDS[: n % 5]) for n in range(40)]
    asked = asyncio.create_task(answers(desk, [part(each) for each in picks]))
    await asyncio.wait({asked}, timeout=0.3)
    desk.generation.hold.set()
    told = await asked
    assert {code_of(answer.results[0]) for answer in told} == {"OK"}
    events = [FeedbackGiven.FromString(event.value) for event in desk.kafka.taken]
    assert [event.request_id for event in events] == [each.request_id for each in picks]
    listed = await desk.stub.ListFeedback(ListFeedbackRequest(user_id=OWNER))
    assert [each.request_id for each in listed.feedback] == [picks[-1].request_id]


async def test_without_kafka_each_pick_may_be_sent_again_and_the_stream_goes_on(desk: Desk) -> None:
    one, other = pick(), pick(selected_image_ids=[])
    desk.kafka.down = True
    stream = desk.stub.ImportFeedback(timeout=60)
    await stream.write(part(one))
    [result] = (await stream.read()).results
    assert code_of(result) == "UNAVAILABLE"
    assert detail_of(result, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    desk.kafka.down = False
    await stream.write(part(other, one))
    assert [code_of(result) for result in (await stream.read()).results] == ["OK", "OK"]
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    events = [FeedbackGiven.FromString(event.value) for event in desk.kafka.taken]
    assert [event.request_id for event in events] == [one.request_id, other.request_id]  # each kept its place


async def test_what_cannot_be_recorded_ends_the_stream_after_the_answers_before_and_records_nothing_after(
    desk: Desk,
) -> None:
    known, unknown, later = pick(), pick(group_id=str(uuid4())), pick(selected_image_ids=[])
    stream = desk.stub.ImportFeedback(timeout=60)
    await stream.write(part(known))
    assert code_of((await stream.read()).results[0]) == "OK"
    desk.generation.down = True
    await stream.write(part(unknown))
    await stream.write(part(later))
    async with failing() as failure:
        while True:
            assert await stream.read() is not None
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert not await desk.is_recorded(unknown.request_id) and not await desk.is_recorded(later.request_id)
    desk.generation.down = False
    told = await answers(desk, [part(unknown), part(later)])
    assert [code_of(answer.results[0]) for answer in told] == ["NOT_FOUND", "OK"]


async def test_a_cancelled_import_loses_nothing_and_its_repeat_gives_the_same(desk: Desk) -> None:
    picks = [pick(selected_image_ids=IMAGE_IDS[: n % 5]) for n in range(30)]
    stream = desk.stub.ImportFeedback((part(each) for each in picks), timeout=60)
    first = [await stream.read() for _ in range(7)]
    stream.cancel()
    told = await answers(desk, [part(each) for each in picks])
    assert told[:7] == first and {code_of(answer.results[0]) for answer in told} == {"OK"}
    assert [event.event_id for event in desk.kafka.taken] == [answer.results[0].response.event_id for answer in told]


async def test_a_stream_is_not_read_on_while_its_window_is_full(tmp_path: Path) -> None:
    """The broker takes nothing for now: from a caller who writes on, HTTP/2 takes what its windows hold."""
    async with opened(tmp_path, import_window=8) as desk:
        hold = asyncio.Event()
        taken = desk.kafka.publish

        async def publish(event: Event) -> None:
            await hold.wait()
            await taken(event)

        desk.kafka.publish = publish  # type: ignore[method-assign]
        written = 0

        whole = part(*(pick(selected_image_ids=IMAGE_IDS) for _ in range(8)))  # some 3 KiB

        async def parts() -> AsyncIterator[ImportFeedbackRequest]:
            nonlocal written
            for _ in range(40_000):
                yield whole
                written += 1

        stream = desk.stub.ImportFeedback(parts(), timeout=60)
        before = -1
        while before != written:  # until it stands still
            before = written
            await asyncio.sleep(1.0)
        assert written < 20_000  # gRPC's windows grow to some MiB
        hold.set()
        assert len((await stream.read()).results) == 8
        stream.cancel()


async def test_the_bounds_of_imports_are_refusals_that_say_when_to_come_again(tmp_path: Path) -> None:
    async with opened(tmp_path, import_streams=1, import_picks=3) as desk:
        stream = desk.stub.ImportFeedback(timeout=60)
        await stream.write(part(pick(), pick(selected_image_ids=[])))
        assert [code_of(result) for result in (await stream.read()).results] == ["OK", "OK"]
        async with failing() as failure:
            await answers(desk, [part(pick())])
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        await stream.write(part(pick(), pick()))
        async with failing() as failure:
            assert await stream.read() is not None
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        assert "at most 3 picks" in failure.message
        assert code_of((await answers(desk, [part(pick())]))[0].results[0]) == "OK"  # its place is free again


async def test_a_fault_of_ours_shows_nothing_of_itself(desk: Desk) -> None:
    async def publish(event: Event) -> None:
        raise ValueError("secret")

    desk.kafka.publish = publish  # type: ignore[method-assign]
    [answer] = await answers(desk, [part(pick())])
    assert code_of(answer.results[0]) == "INTERNAL" and b"secret" not in answer.results[0].status


async def test_more_picks_than_there_is_room_for_wait_and_then_hear_when_to_come_again(tmp_path: Path) -> None:
    async with opened(tmp_path, max_picks_in_flight=2) as desk:
        hold = asyncio.Event()

        async def publish(event: Event) -> None:
            await hold.wait()
            raise Unavailable("kafka")

        desk.kafka.publish = publish  # type: ignore[method-assign]
        first = [asyncio.create_task(desk.submit(timeout=60)) for _ in range(2)]
        await asyncio.wait(first, timeout=0.5)
        async with failing() as failure:
            await desk.submit(timeout=2.0)
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retryable
        assert "2 picks in flight" in failure.message
        waiting = asyncio.create_task(desk.submit(timeout=60))
        hold.set()
        told = await asyncio.gather(*first, return_exceptions=True)
        assert [type(each) for each in told] == [grpc.aio.AioRpcError] * 2
        async with failing() as failure:
            await waiting  # it got a place, and heard of Kafka itself
        assert failure.code == grpc.StatusCode.UNAVAILABLE
