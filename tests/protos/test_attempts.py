"""Retries and deadlines of one logical call, over a real connection."""

import time
import uuid

import grpc
import pytest
from perfusion.client import Backoff, DeadlineExceeded, InvalidArgument, PerFusion, TooManyCalls, Unavailable
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackResponse
from perfusion.v1.generation_service_pb2 import GetGroupResponse
from perfusion.v1.group_pb2 import Group

from tests.protos.running import info, refuse, retry_info, serving

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Recorded:
    """A method that refuses its first calls, and remembers when each came, with what, and how much time it had."""

    def __init__(self, answer, *refusals):
        self.answer = answer
        self.refusals = list(refusals)
        self.requests = []
        self.times_s = []
        self.left_s = []

    def __call__(self, request, context):
        self.requests.append(request)
        self.times_s.append(time.monotonic())
        self.left_s.append(context.time_remaining())
        if self.refusals:
            code, *details = self.refusals.pop(0)
            refuse(context, code, *details)
        return self.answer


def test_a_call_is_tried_again_after_what_the_service_asked_for():
    method = Recorded(
        GetGroupResponse(group=Group(group_id="g")),
        (UNAVAILABLE, info("DEPENDENCY_UNAVAILABLE", dependency="kafka"), retry_info(0.3)),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, info("TOO_MANY_CALLS"), retry_info(0.1)),
    )
    with serving(GetGroup=method) as address, PerFusion(address) as client:
        assert client.get_group("g").group_id == "g"
    first, second, third = method.times_s
    assert second - first >= 0.3
    assert third - second >= 0.1


def test_a_service_that_does_not_say_when_is_asked_again_by_the_backoff():
    method = Recorded(GetGroupResponse(), (UNAVAILABLE,), (UNAVAILABLE,))
    backoff = Backoff(first_s=0.05)
    with serving(GetGroup=method) as address, PerFusion(address, backoff=backoff) as client:
        client.get_group("g")
    assert len(method.requests) == 3


def test_all_attempts_carry_the_same_request_id_and_another_call_another():
    refusals = [(UNAVAILABLE, retry_info(0.01))] * 2
    method = Recorded(SubmitFeedbackResponse(), *refusals)
    with serving(SubmitFeedback=method) as address, PerFusion(address) as client:
        client.submit_feedback(Group(group_id="g", user_id="store-1"), ["i"])
        client.submit_feedback(Group(group_id="g", user_id="store-1"), ["i"])
    first, *again, other = [request.request_id for request in method.requests]
    assert again == [first, first]
    assert other != first
    assert uuid.UUID(first).version == 4
    assert method.requests[0] == method.requests[2]


def test_one_deadline_holds_over_all_attempts():
    method = Recorded(GetGroupResponse(), (UNAVAILABLE, retry_info(0.4)))
    with serving(GetGroup=method) as address, PerFusion(address) as client:
        client.get_group("g", timeout_s=2.0)
    first, second = method.left_s
    assert first <= 2.01
    assert second <= first - 0.39


def test_a_wait_beyond_the_deadline_is_not_begun_and_the_cause_is_told():
    method = Recorded(GetGroupResponse(), (grpc.StatusCode.RESOURCE_EXHAUSTED, info("TOO_MANY_CALLS"), retry_info(30)))
    with serving(GetGroup=method) as address, PerFusion(address) as client:
        begin = time.monotonic()
        with pytest.raises(TooManyCalls) as caught:
            client.get_group("g", timeout_s=5.0)
    assert time.monotonic() - begin < 3
    assert caught.value.retry_after_s == 30
    assert len(method.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((grpc.StatusCode.INVALID_ARGUMENT, info("INVALID_ARGUMENT")), InvalidArgument),
        ((grpc.StatusCode.DEADLINE_EXCEEDED, info("DEADLINE_EXCEEDED")), DeadlineExceeded),
    ],
)
def test_what_the_caller_has_to_change_is_never_tried_again(refusal, kind):
    method = Recorded(GetGroupResponse(), refusal)
    with serving(GetGroup=method) as address, PerFusion(address) as client, pytest.raises(kind):
        client.get_group("g")
    assert len(method.requests) == 1


def test_a_service_that_does_not_answer_in_time_is_a_deadline():
    def slow(request, context):
        time.sleep(0.5)
        return GetGroupResponse()

    with serving(GetGroup=slow) as address, PerFusion(address) as client, pytest.raises(DeadlineExceeded):
        client.get_group("g", timeout_s=0.1)


def test_a_service_that_is_down_is_unavailable_at_the_end_of_the_time():
    with serving() as address:
        pass
    begin = time.monotonic()
    with PerFusion(address, timeout_s=0.6) as client, pytest.raises(Unavailable):
        client.get_group("g")
    assert time.monotonic() - begin < 3


def test_waiting_for_a_service_that_is_down_ends_with_the_deadline():
    with serving() as address:
        pass
    with PerFusion(address, timeout_s=0.4, wait_for_ready=True) as client, pytest.raises(DeadlineExceeded):
        client.get_group("g")


def test_the_backoff_grows_to_its_longest_and_spreads_the_clients():
    backoff = Backoff(first_s=0.2, factor=2.0, longest_s=1.0)
    for failures, most_s in [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.0), (10_000, 1.0)]:
        waits = [backoff.wait_s(failures, None) for _ in range(50)]
        assert all(most_s / 2 <= wait <= most_s for wait in waits)
        assert len(set(waits)) > 1


def test_a_services_own_wish_is_a_floor():
    waits = [Backoff().wait_s(7, 2.0) for _ in range(50)]
    assert all(2.0 <= wait <= 2.4 for wait in waits)
