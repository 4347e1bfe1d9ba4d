"""A round as its client sees it, over a real connection that is cut, refused, and closed."""

import threading
import time

import grpc
import pytest
from perfusion.client import NotFound, PerFusion, ServiceFault
from perfusion.v1.generation_service_pb2 import GenerateAccepted, GenerateProgress, GenerateResponse
from perfusion.v1.group_pb2 import SCHEDULER_EULER, Group

from tests.protos.running import info, refuse, retry_info, serving

ACCEPTED = GenerateResponse(accepted=GenerateAccepted(group_id="g", release=3))
GROUP = GenerateResponse(group=Group(group_id="g", user_id="store-1"))
LIMIT_S = 10.0


def step(number):
    return GenerateResponse(progress=GenerateProgress(step=number, num_steps=2))


def cut(context):
    refuse(context, grpc.StatusCode.UNAVAILABLE, info("DEPENDENCY_UNAVAILABLE"), retry_info(0.02))


def names(events):
    return [f"step {event.step}" if isinstance(event, GenerateProgress) else type(event).__name__ for event in events]


class Streams:
    """Generate, whose n-th call is the n-th of `streams`; remembers the requests."""

    def __init__(self, *streams):
        self.streams = list(streams)
        self.requests = []

    def __call__(self, request, context):
        self.requests.append(request)
        for part in self.streams[len(self.requests) - 1]:
            if part is cut:
                cut(context)
            yield part


def test_a_round_is_accepted_then_steps_then_the_group():
    generate = Streams([ACCEPTED, step(1), step(2), GROUP])
    with serving(Generate=generate) as address, PerFusion(address) as client:
        settings = {"num_steps": 2, "scheduler": SCHEDULER_EULER, "refused_wishes": ["gothic"], "variety": 0}
        events = client.generate("store-1", "dress", **settings)
        assert names(events) == ["GenerateAccepted", "step 1", "step 2", "Group"]
    [request] = generate.requests
    assert request.request_id == events.request_id
    assert (request.user_id, request.prompt, request.num_steps) == ("store-1", "dress", 2)
    assert request.scheduler == SCHEDULER_EULER
    assert request.refused_wishes == ["gothic"]
    assert request.HasField("variety") and request.variety == 0
    assert not request.HasField("seed")


def test_the_group_alone_takes_one_line():
    with serving(Generate=Streams([ACCEPTED, step(1), GROUP])) as address, PerFusion(address) as client:
        round_ = client.generate("store-1", "dress")
        assert round_.group() == GROUP.group
        assert round_.group() == GROUP.group
        assert list(round_) == []


def test_a_cut_round_is_resumed_with_the_same_request_and_accepted_once():
    generate = Streams([ACCEPTED, step(1), cut], [cut], [ACCEPTED, GROUP])
    with serving(Generate=generate) as address, PerFusion(address) as client:
        assert names(client.generate("store-1", "dress")) == ["GenerateAccepted", "step 1", "Group"]
    first, *again = generate.requests
    assert again == [first, first]


def test_a_round_that_began_anew_under_another_id_says_so():
    anew = GenerateResponse(accepted=GenerateAccepted(group_id="h", release=4))
    generate = Streams([ACCEPTED, cut], [anew, step(1), GROUP])
    with serving(Generate=generate) as address, PerFusion(address) as client:
        accepted = [e for e in client.generate("store-1", "dress") if isinstance(e, GenerateAccepted)]
    assert [each.group_id for each in accepted] == ["g", "h"]


def test_a_group_counts_only_when_its_stream_ended_ok():
    generate = Streams([ACCEPTED, GROUP, cut], [ACCEPTED, GROUP])
    with serving(Generate=generate) as address, PerFusion(address) as client:
        assert names(client.generate("store-1", "dress")) == ["GenerateAccepted", "Group"]
    assert len(generate.requests) == 2


def test_an_earlier_round_is_continued_by_its_request_id():
    generate = Streams([ACCEPTED, GROUP])
    with serving(Generate=generate) as address, PerFusion(address) as client:
        client.generate("store-1", "dress", request_id="11111111-1111-4111-8111-111111111111").group()
    assert generate.requests[0].request_id == "11111111-1111-4111-8111-111111111111"


def test_a_refused_round_raises_the_typed_error_and_is_over():
    def refused(request, context):
        refuse(context, grpc.StatusCode.NOT_FOUND, info("NOT_FOUND", field="user_id"))
        yield

    with serving(Generate=refused) as address, PerFusion(address) as client:
        round_ = client.generate("store-1", "dress")
        with pytest.raises(NotFound):
            next(round_)
        assert list(round_) == []
        with pytest.raises(RuntimeError, match="before it had a group"):
            round_.group()


def test_a_stream_without_a_group_is_a_fault_of_the_service():
    with (
        serving(Generate=Streams([ACCEPTED])) as address,
        PerFusion(address) as client,
        pytest.raises(ServiceFault, match="without a group"),
    ):
        client.generate("store-1", "dress").group()


class Endless:
    """Generate that works until its caller goes away, and says when that is."""

    def __init__(self):
        self.gone = threading.Event()

    def __call__(self, request, context):
        context.add_callback(self.gone.set)
        yield ACCEPTED
        self.gone.wait(LIMIT_S)


def abandon(round_):
    round_.close()


def leave(round_):
    with round_:
        pass


@pytest.mark.parametrize("end", [abandon, leave])
def test_closing_a_round_cancels_the_call(end):
    generate = Endless()
    with serving(Generate=generate) as address, PerFusion(address) as client:
        round_ = client.generate("store-1", "dress")
        next(round_)
        end(round_)
        assert generate.gone.wait(LIMIT_S)
        assert list(round_) == []


def test_dropping_a_round_cancels_the_call():
    generate = Endless()
    with serving(Generate=generate) as address, PerFusion(address) as client:
        for _ in client.generate("store-1", "dress"):
            break
        assert generate.gone.wait(LIMIT_S)


def test_another_thread_may_close_a_round_that_waits():
    generate = Endless()
    with serving(Generate=generate) as address, PerFusion(address) as client:
        round_ = client.generate("store-1", "dress")
        next(round_)
        closing = threading.Timer(0.1, round_.close)
        closing.start()
        assert list(round_) == []
        closing.join()
        assert generate.gone.wait(LIMIT_S)


def test_closing_ends_the_wait_before_another_attempt_too():
    def busy(request, context):
        refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, info("TOO_MANY_CALLS"), retry_info(30))
        yield

    with serving(Generate=busy) as address, PerFusion(address, timeout_s=60) as client:
        round_ = client.generate("store-1", "dress")
        closing = threading.Timer(0.2, round_.close)
        closing.start()
        begin = time.monotonic()
        assert list(round_) == []
        closing.join()
    assert time.monotonic() - begin < LIMIT_S


def test_a_round_that_is_never_asked_for_an_event_is_never_sent():
    generate = Streams()
    with serving(Generate=generate) as address, PerFusion(address) as client:
        client.generate("store-1", "dress").close()
    assert generate.requests == []
