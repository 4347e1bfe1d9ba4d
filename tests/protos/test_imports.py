"""Imports of the client: every pick comes out once with what became of it, over cut streams and picks that failed."""

import itertools
import threading

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2
from perfusion.client import Backoff, InvalidArgument, PerFusion, Unavailable
from perfusion.v1.feedback_service_pb2 import (
    ImportFeedbackResponse,
    ImportFeedbackResult,
    SubmitFeedbackRequest,
    SubmitFeedbackResponse,
)

from tests.protos.running import bad_request, info, refuse, retry_info, serving

QUICK = Backoff(first_s=0.01, longest_s=0.02)


def picks(count):
    return [SubmitFeedbackRequest(request_id=f"r{i}") for i in range(count)]


def ok(pick):
    return ImportFeedbackResult(response=SubmitFeedbackResponse(event_id=f"event of {pick.request_id}"))


def refused(code, *details):
    status = status_pb2.Status(code=code.value[0], message="refused")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return ImportFeedbackResult(status=status.SerializeToString())


class Service:
    """ImportFeedback: answers each pick by `answer`, and remembers what came, stream by stream."""

    def __init__(self, answer=ok):
        self.answer = answer
        self.streams = []
        self.lock = threading.Lock()

    def __call__(self, requests, context):
        came = []
        self.streams.append(came)
        for request in requests:
            came.append([pick.request_id for pick in request.requests])
            yield ImportFeedbackResponse(results=[self.answer(pick) for pick in request.requests])


def test_picks_come_out_in_their_order_each_with_its_response():
    service = Service()
    with serving(ImportFeedback=service) as address, PerFusion(address) as client:
        told = list(client.import_feedback(iter(picks(250))))
    assert [(pick.request_id, outcome.event_id) for pick, outcome in told] == [
        (f"r{i}", f"event of r{i}") for i in range(250)
    ]
    [came] = service.streams
    assert [len(part) for part in came] == [100, 100, 50]


def test_no_picks_need_no_service():
    with PerFusion("localhost:1") as client:
        assert list(client.import_feedback([])) == []


def test_a_refused_pick_has_its_typed_error_and_the_others_their_responses():
    def answer(pick):
        if pick.request_id != "r1":
            return ok(pick)
        return refused(
            grpc.StatusCode.INVALID_ARGUMENT, info("INVALID_ARGUMENT"), bad_request(("user_id", "must be short"))
        )

    with serving(ImportFeedback=Service(answer)) as address, PerFusion(address) as client:
        told = [outcome for _, outcome in client.import_feedback(picks(3))]
    assert [type(each) for each in told] == [SubmitFeedbackResponse, InvalidArgument, SubmitFeedbackResponse]
    assert told[1].fields == [("user_id", "must be short")] and told[1].message == "refused"


def test_a_pick_that_kafka_has_not_taken_is_sent_again_after_its_time():
    tries = itertools.count()

    def answer(pick):
        if pick.request_id != "r1" or next(tries) == 2:
            return ok(pick)
        details = (info("DEPENDENCY_UNAVAILABLE", dependency="kafka"), retry_info(0.01))
        return refused(grpc.StatusCode.UNAVAILABLE, *details)

    service = Service(answer)
    with serving(ImportFeedback=service) as address, PerFusion(address) as client:
        told = [pick.request_id for pick, outcome in client.import_feedback(picks(3)) if outcome.event_id]
    assert told == ["r0", "r2", "r1"]
    assert list(itertools.chain(*service.streams)) == [["r0", "r1", "r2"], ["r1"], ["r1"]]


def test_a_pick_that_kafka_never_takes_comes_out_with_its_error():
    never = refused(grpc.StatusCode.UNAVAILABLE, info("DEPENDENCY_UNAVAILABLE", dependency="kafka"), retry_info(0.01))
    with serving(ImportFeedback=Service(lambda _: never)) as address, PerFusion(address) as client:
        [(_, error)] = client.import_feedback(picks(1), timeout_s=0.2)
    assert isinstance(error, Unavailable) and error.metadata == {"dependency": "kafka"}


def test_a_cut_stream_goes_on_with_what_it_had_not_answered_in_order():
    service = Service()
    whole = service.__call__

    def cutting(requests, context):
        for n, response in enumerate(whole(requests, context)):
            yield response
            if n == 1 and len(service.streams) < 3:
                refuse(context, grpc.StatusCode.UNAVAILABLE, info("DEPENDENCY_UNAVAILABLE"), retry_info(0.01))

    with serving(ImportFeedback=cutting) as address, PerFusion(address, backoff=QUICK) as client:
        told = [pick.request_id for pick, _ in client.import_feedback(picks(700), window=300)]
    assert told == [f"r{i}" for i in range(700)]
    answered = [len(service.streams[0][0]) + len(service.streams[0][1])]
    assert service.streams[1][0][0] == f"r{answered[0]}"


def test_a_stream_that_does_not_come_back_raises_its_typed_error():
    def down(requests, context):
        refuse(context, grpc.StatusCode.UNAVAILABLE, info("DEPENDENCY_UNAVAILABLE"), retry_info(0.01))

    with serving(ImportFeedback=down) as address, PerFusion(address) as client, pytest.raises(Unavailable):
        list(client.import_feedback(picks(3), timeout_s=0.2))


def test_no_more_than_the_window_is_read_ahead():
    taken = []

    def watched():
        for pick in picks(100):
            taken.append(pick)
            yield pick

    with serving(ImportFeedback=Service()) as address, PerFusion(address) as client:
        outcomes = client.import_feedback(watched(), window=10)
        assert taken == []
        for n, _ in enumerate(outcomes, start=1):
            assert len(taken) <= n + 10
    assert len(taken) == 100


def test_a_window_without_room_is_refused():
    with PerFusion("localhost:1") as client, pytest.raises(ValueError, match="window must be at least 1"):
        client.import_feedback(picks(1), window=0)


def test_an_import_that_is_left_cancels_its_stream():
    ended = threading.Event()
    service = Service()

    def watched(requests, context):
        context.add_callback(ended.set)
        yield from service(requests, context)

    with serving(ImportFeedback=watched) as address, PerFusion(address) as client:
        outcomes = client.import_feedback(iter(picks(1000)), window=10)
        next(outcomes)
        outcomes.close()
        assert ended.wait(30)
