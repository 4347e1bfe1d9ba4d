"""A channel whose calls failed for a while is opened anew; its calls come to their end."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from perfusion.client import _channel
from perfusion.client._channel import RenewedChannel
from perfusion.v1.generation_service_pb2 import GenerateRequest, GenerateResponse
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.user_embedding_service_pb2 import GetUserProfileRequest, GetUserProfileResponse
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from tests.protos.running import serving

NOWHERE = "nowhere.invalid:1"  # a name without an address


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_channel, "RENEW_S", 0.2)


def opening(*addresses: str) -> tuple[RenewedChannel, list[grpc.Channel]]:
    """A channel to one address after the other, the last one for ever; and what it has opened."""
    left, opened = list(addresses), list[grpc.Channel]()

    def open_one() -> grpc.Channel:
        opened.append(grpc.insecure_channel(left.pop(0) if len(left) > 1 else left[0]))
        return opened[-1]

    return RenewedChannel(open_one), opened


def test_a_name_that_had_no_address_is_asked_again_at_once() -> None:
    """gRPC itself would take up to two minutes."""
    with serving(GetUserProfile=lambda *_: GetUserProfileResponse()) as address:
        channel, opened = opening(NOWHERE, address)
        with channel:
            ask = UserEmbeddingServiceStub(channel).GetUserProfile
            until = time.monotonic() + 20
            while True:
                try:
                    ask(GetUserProfileRequest(), timeout=5.0)
                    break
                except grpc.RpcError:
                    assert time.monotonic() < until
                    time.sleep(0.05)
            assert len(opened) == 2
            ask(GetUserProfileRequest(), timeout=5.0)
            assert len(opened) == 2


def test_the_first_failures_open_nothing() -> None:
    channel, opened = opening(NOWHERE)
    with channel:
        ask = UserEmbeddingServiceStub(channel).GetUserProfile
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                ask(GetUserProfileRequest(), timeout=5.0)
        assert len(opened) == 1


def test_a_stream_goes_on_while_its_channel_is_replaced() -> None:
    go = threading.Event()

    def generate(*_: object) -> Iterator[GenerateResponse]:
        yield GenerateResponse()
        assert go.wait(30.0)
        yield GenerateResponse()

    def refuse(_: object, context: grpc.ServicerContext) -> GetUserProfileResponse:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    with serving(Generate=generate, GetUserProfile=refuse) as address:
        channel, opened = opening(address)
        with channel:
            stream = GenerationServiceStub(channel).Generate(GenerateRequest(), timeout=30.0)
            next(stream)
            ask = UserEmbeddingServiceStub(channel).GetUserProfile
            until = time.monotonic() + 20
            while len(opened) == 1 and time.monotonic() < until:
                with pytest.raises(grpc.RpcError):
                    ask(GetUserProfileRequest(), timeout=5.0)
                time.sleep(0.05)
            assert len(opened) == 2
            go.set()
            assert len(list(stream)) == 1


class Waiting:
    """As one of gRPC's channels: a thread of the channel's tells a call's end, and closing waits for that thread."""

    def __init__(self) -> None:
        self.ends: list[Callable[[], object]] = []
        self.closed = threading.Event()
        self.thread: threading.Thread | None = None

    def unary_unary(self, *_: object) -> Callable[..., object]:
        def refuse(*_: object, **__: object) -> object:
            raise Refused

        return refuse

    def unary_stream(self, *_: object) -> Callable[..., object]:
        return lambda *_, **__: self

    def add_done_callback(self, callback: Callable[[object], object]) -> None:
        self.ends.append(lambda: callback(self))

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def end(self) -> threading.Thread:
        self.thread = threading.Thread(target=lambda: [end() for end in self.ends], daemon=True)
        self.thread.start()
        return self.thread

    def close(self) -> None:
        if self.thread is not None:
            while self.thread.is_alive():
                time.sleep(0.01)
        self.closed.set()


class Refused(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


def test_the_last_call_of_a_replaced_channel_closes_it_without_waiting_for_itself() -> None:
    first, second = Waiting(), Waiting()
    left = [first, second]
    channel = RenewedChannel(lambda: left.pop(0))  # type: ignore[arg-type,return-value]
    channel.unary_stream("Generate")(None)
    ask = channel.unary_unary("GetUserProfile")
    with pytest.raises(Refused):
        ask(None)
    time.sleep(0.25)  # more than RENEW_S
    with pytest.raises(Refused):
        ask(None)
    assert not left, "the channel is replaced"
    thread = first.end()
    thread.join(10.0)
    assert not thread.is_alive() and first.closed.wait(10.0) and not second.closed.is_set()
