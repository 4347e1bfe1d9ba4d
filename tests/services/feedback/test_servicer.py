"""The feedback service over real gRPC and SQLite: checked against the group, OK only when Kafka has it, never twice."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2 import GetFeedbackRequest, ListFeedbackRequest

from tests.services.feedback.desk import Desk, pick
from tests.services.feedback.fakes import GROUP_ID, IMAGE_IDS, OWNER, RELEASE
from tests.services.running import failing


async def test_a_pick_is_published_with_everything_training_needs(desk: Desk) -> None:
    request_id = str(uuid4())
    answer = await desk.submit(request_id=request_id, selected_image_ids=[IMAGE_IDS[3], IMAGE_IDS[0]])
    [event] = desk.kafka.taken
    assert (event.topic, event.key, event.event_id) == ("perfusion.feedback.v1", OWNER, answer.event_id)
    assert UUID(answer.event_id)
    assert FeedbackGiven.FromString(event.value) == FeedbackGiven(
        request_id=request_id,
        group_id=GROUP_ID,
        user_id=OWNER,
        release=RELEASE,
        selected_image_ids=[IMAGE_IDS[0], IMAGE_IDS[3]],
        unselected_image_ids=[IMAGE_IDS[1], IMAGE_IDS[2], IMAGE_IDS[4]],
        feedback_time=answer.feedback_time,
        sequence=1,
    )


async def test_picking_nothing_is_feedback_too(desk: Desk) -> None:
    await desk.submit(selected_image_ids=[])
    [event] = desk.kafka.taken
    assert list(FeedbackGiven.FromString(event.value).unselected_image_ids) == IMAGE_IDS


async def test_a_repeat_gets_the_same_answer_and_publishes_nothing_more(desk: Desk) -> None:
    request_id = str(uuid4())
    both = [IMAGE_IDS[0], IMAGE_IDS[1]]
    first = await desk.submit(request_id=request_id, selected_image_ids=both)
    assert await desk.submit(request_id=request_id.upper(), selected_image_ids=both[::-1]) == first
    assert len(desk.kafka.taken) == 1


async def test_a_repeat_is_answered_even_while_the_generation_service_is_away(desk: Desk) -> None:
    request_id = str(uuid4())
    first = await desk.submit(request_id=request_id)
    desk.generation.down = True
    assert await desk.submit(request_id=request_id) == first


async def test_a_second_pick_under_another_request_id_is_another_event_and_counts(desk: Desk) -> None:
    first, second = await desk.submit(), await desk.submit(selected_image_ids=[])
    events = [FeedbackGiven.FromString(event.value) for event in desk.kafka.taken]
    assert [event.event_id for event in desk.kafka.taken] == [first.event_id, second.event_id]
    assert events[0].sequence < events[1].sequence
    counting = (await desk.stub.GetFeedback(GetFeedbackRequest(group_id=GROUP_ID, user_id=OWNER))).feedback
    assert (counting.event_id, counting.sequence) == (second.event_id, events[1].sequence)
    assert not counting.superseded


async def test_a_repeat_of_the_first_pick_does_not_make_it_the_later_one(desk: Desk) -> None:
    request_id = str(uuid4())
    await desk.submit(request_id=request_id)
    second = await desk.submit(selected_image_ids=[])
    await desk.submit(request_id=request_id)
    counting = (await desk.stub.GetFeedback(GetFeedbackRequest(group_id=GROUP_ID, user_id=OWNER))).feedback
    assert counting.event_id == second.event_id


async def test_a_pick_is_read_back_once_kafka_has_it(desk: Desk) -> None:
    asked = GetFeedbackRequest(group_id=GROUP_ID.upper(), user_id=OWNER)
    async with failing() as failure:
        await desk.stub.GetFeedback(asked)
    assert failure.code == grpc.StatusCode.NOT_FOUND and not failure.retryable
    first = await desk.submit(selected_image_ids=[IMAGE_IDS[3], IMAGE_IDS[0]])
    desk.kafka.down = True
    async with failing():
        await desk.submit(selected_image_ids=[])
    desk.generation.down = True
    read = (await desk.stub.GetFeedback(asked)).feedback
    assert (read.event_id, read.feedback_time) == (first.event_id, first.feedback_time)
    assert list(read.selected_image_ids) == [IMAGE_IDS[0], IMAGE_IDS[3]]
    assert list(read.unselected_image_ids) == [IMAGE_IDS[1], IMAGE_IDS[2], IMAGE_IDS[4]]
    async with failing() as failure:
        await desk.stub.GetFeedback(GetFeedbackRequest(group_id=GROUP_ID, user_id="somebody-else"))
    assert failure.code == grpc.StatusCode.PERMISSION_DENIED


async def test_picks_are_listed_by_pages_with_or_without_the_superseded(desk: Desk) -> None:
    made = [(await desk.submit(selected_image_ids=IMAGE_IDS[:n])).event_id for n in range(5)]
    answer = await desk.stub.ListFeedback(ListFeedbackRequest(user_id=OWNER))
    assert [(pick.event_id, pick.superseded) for pick in answer.feedback] == [(made[-1], False)]
    listed: list[tuple[str, bool]] = []
    token, pages = "", 0
    while pages == 0 or token:
        asked = ListFeedbackRequest(
            user_id=OWNER, group_id=GROUP_ID, show_superseded=True, page_size=2, page_token=token
        )
        page = await desk.stub.ListFeedback(asked)
        listed += [(pick.event_id, pick.superseded) for pick in page.feedback]
        token, pages = page.next_page_token, pages + 1
    assert listed == [(event_id, event_id != made[-1]) for event_id in made[::-1]] and pages == 3
    assert not (await desk.stub.ListFeedback(ListFeedbackRequest(user_id="nobody"))).feedback


async def test_reading_names_every_wrong_field(desk: Desk) -> None:
    first = await desk.submit()
    await desk.submit()
    page = await desk.stub.ListFeedback(ListFeedbackRequest(user_id=OWNER, show_superseded=True, page_size=1))
    for asked, fields in (
        (GetFeedbackRequest(group_id="x"), ["group_id", "user_id"]),
        (ListFeedbackRequest(user_id="", group_id="x", page_size=101), ["user_id", "group_id", "page_size"]),
        (ListFeedbackRequest(user_id=OWNER, page_token=page.next_page_token), ["page_token"]),
        (ListFeedbackRequest(user_id=OWNER, page_token=first.event_id), ["page_token"]),
    ):
        method = desk.stub.GetFeedback if isinstance(asked, GetFeedbackRequest) else desk.stub.ListFeedback
        async with failing() as failure:
            await method(asked)
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and list(failure.fields) == fields


@pytest.mark.parametrize(
    "changes",
    [{"selected_image_ids": [IMAGE_IDS[2]]}, {"selected_image_ids": []}, {"user_id": "somebody-else"}],
    ids=["another picture", "nothing", "another user"],
)
async def test_a_different_pick_under_the_same_request_id_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    request_id = str(uuid4())
    first = await desk.submit(request_id=request_id)
    async with failing() as failure:
        await desk.submit(request_id=request_id, **changes)
    assert failure.code == grpc.StatusCode.ALREADY_EXISTS and not failure.retryable
    assert [event.event_id for event in desk.kafka.taken] == [first.event_id]
    assert await desk.submit(request_id=request_id) == first


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"request_id": ""}, ["request_id"]),
        ({"request_id": "not-a-uuid"}, ["request_id"]),
        ({"request_id": "{6f1d9b1e-0000-4000-8000-00000000000a}"}, ["request_id"]),
        ({"group_id": "../../etc"}, ["group_id"]),
        ({"user_id": ""}, ["user_id"]),
        ({"user_id": "x" * 129}, ["user_id"]),
        ({"selected_image_ids": ["not-a-uuid"]}, ["selected_image_ids[0]"]),
        ({"selected_image_ids": [IMAGE_IDS[0], str(uuid4())]}, ["selected_image_ids[1]"]),
        ({"selected_image_ids": [IMAGE_IDS[0], IMAGE_IDS[1], IMAGE_IDS[0].upper()]}, ["selected_image_ids[2]"]),
        ({"selected_image_ids": [str(uuid4()) for _ in range(65)]}, ["selected_image_ids"]),
        ({"request_id": "x", "group_id": "y", "user_id": ""}, ["request_id", "group_id", "user_id"]),
    ],
)
async def test_bad_input_is_named_and_records_nothing(desk: Desk, changes: dict[str, Any], fields: list[str]) -> None:
    request = pick(**changes)
    async with failing() as failure:
        await desk.stub.SubmitFeedback(request)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.fields) == fields
    assert desk.kafka.taken == []
    assert not await desk.is_recorded(request.request_id)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"group_id": str(uuid4())}, "NOT_FOUND"), ({"user_id": "somebody-else"}, "PERMISSION_DENIED")],
)
async def test_a_group_that_is_unknown_or_anothers_records_nothing(
    desk: Desk, changes: dict[str, Any], code: str
) -> None:
    request = pick(**changes)
    async with failing() as failure:
        await desk.stub.SubmitFeedback(request)
    assert failure.code.name == code and not failure.retryable
    assert desk.kafka.taken == []
    assert not await desk.is_recorded(request.request_id)


async def test_without_kafka_there_is_no_ok_and_the_repeat_publishes_the_event(desk: Desk) -> None:
    request_id = str(uuid4())
    desk.kafka.down = True
    for _ in range(2):
        async with failing() as failure:
            await desk.submit(request_id=request_id)
        assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    desk.kafka.down = False
    answer = await desk.submit(request_id=request_id)
    assert [event.event_id for event in desk.kafka.taken] == [answer.event_id]


async def test_after_a_lost_acknowledgement_the_repeat_is_the_same_event(desk: Desk) -> None:
    request_id = str(uuid4())
    desk.kafka.deaf = True
    async with failing() as failure:
        await desk.submit(request_id=request_id)
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    desk.kafka.deaf = False
    answer = await desk.submit(request_id=request_id)
    first, second = desk.kafka.taken
    assert first == second and first.event_id == answer.event_id


async def test_an_earlier_pick_that_is_owed_goes_first(desk: Desk) -> None:
    desk.kafka.down = True
    async with failing():
        await desk.submit()
    desk.kafka.down = False
    second = await desk.submit(selected_image_ids=[])
    sequences = [FeedbackGiven.FromString(event.value).sequence for event in desk.kafka.taken]
    assert sequences == [1, 2] and desk.kafka.taken[1].event_id == second.event_id


async def test_a_pick_that_may_be_in_kafka_cannot_be_changed_any_more(desk: Desk) -> None:
    request_id = str(uuid4())
    desk.kafka.deaf = True
    async with failing():
        await desk.submit(request_id=request_id)
    desk.kafka.deaf = False
    async with failing() as failure:
        await desk.submit(request_id=request_id, selected_image_ids=[])
    assert failure.code == grpc.StatusCode.ALREADY_EXISTS


async def test_repeats_at_once_get_one_answer_and_one_event_id(desk: Desk) -> None:
    request_id = str(uuid4())
    answers = await asyncio.gather(*(desk.submit(request_id=request_id) for _ in range(6)))
    assert len({answer.event_id for answer in answers}) == 1
    assert {event.event_id for event in desk.kafka.taken} == {answers[0].event_id}


async def test_a_pick_can_be_corrected_while_the_generation_service_is_away(desk: Desk) -> None:
    await desk.submit()
    desk.generation.down = True
    second = await desk.submit(selected_image_ids=[IMAGE_IDS[4], IMAGE_IDS[2]])
    told = FeedbackGiven.FromString(desk.kafka.taken[-1].value)
    assert desk.kafka.taken[-1].event_id == second.event_id
    assert list(told.selected_image_ids) == [IMAGE_IDS[2], IMAGE_IDS[4]]  # in the order shown
    async with failing() as failure:
        await desk.submit(user_id="somebody-else")
    assert failure.code == grpc.StatusCode.PERMISSION_DENIED


async def test_while_the_generation_service_is_away_nothing_is_recorded(desk: Desk) -> None:
    request = pick()
    desk.generation.down = True
    async with failing() as failure:
        await desk.stub.SubmitFeedback(request)
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert not await desk.is_recorded(request.request_id)


async def test_a_deadline_that_expires_ends_the_call_and_records_nothing(desk: Desk) -> None:
    request = pick()
    desk.generation.hold = asyncio.Event()
    async with failing() as failure:
        await desk.stub.SubmitFeedback(request, timeout=0.3)
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    desk.generation.hold.set()
    assert not await desk.is_recorded(request.request_id) and desk.kafka.taken == []


async def test_health_names_what_is_missing(desk: Desk) -> None:
    await desk.generation_server.poll_health()
    assert await desk.server.poll_health() == {}
    desk.kafka.down = True
    await desk.generation_server.stop()
    assert sorted(await desk.server.poll_health()) == ["generation service", "kafka"]
