"""How a client's channels are set: sizes, keepalive, reconnection, encryption.

It knows gRPC's options and nothing of the services.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

MAX_MESSAGE_BYTES = 32 * 2**20  # what the services take, unless their operator says otherwise
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead connection is noticed within 80 s while a call is in flight, and no ping is sent otherwise.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # Calls are shared out among all addresses of a name, and a new one is looked up at once.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A service that comes back is found within 2 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


RENEW_S = 2.0  # how long calls may end UNAVAILABLE before the channel is opened anew


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A channel to host:port; not encrypted without credentials. It connects with the first call."""
    if credentials is None:
        return RenewedChannel(lambda: grpc.insecure_channel(address, options=_OPTIONS))
    return RenewedChannel(lambda: grpc.secure_channel(address, credentials, options=_OPTIONS))


@dataclass(eq=False)
class _Opened:
    """One of gRPC's channels, and how many calls are in flight on it."""

    channel: grpc.Channel
    calls: int = 0


class RenewedChannel(grpc.Channel):
    """A channel that is opened anew while all calls end UNAVAILABLE. Safe between threads.

    gRPC asks a name server that knew no address again after a pause, which grows to two minutes, and no option bounds
    it. In Kubernetes a name has no address while no pod of a service is ready. A new channel asks at once.
    """

    def __init__(self, open_one: Callable[[], grpc.Channel]) -> None:
        self._open = open_one
        self._lock = threading.Lock()
        self._current = _Opened(open_one())
        self._former: set[_Opened] = set()  # which still have calls
        self._failing_since: float | None = None

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_stream", arguments, named)

    def close(self) -> None:
        """Cancels calls in flight."""
        with self._lock:
            opened = {self._current, *self._former}
            self._former.clear()
        for each in opened:
            each.channel.close()

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = None
    ) -> None:
        self._current.channel.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._current.channel.unsubscribe(callback)

    def __enter__(self) -> RenewedChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _method(self, kind: str, arguments: Any, named: Any) -> Callable[..., Any]:
        def called(request: Any, **options: Any) -> Any:
            opened = self._begin()
            try:
                answer = getattr(opened.channel, kind)(*arguments, **named)(request, **options)
            except grpc.RpcError as failure:
                self._end(opened, failure.code())
                raise
            except BaseException:
                self._end(opened, None)
                raise
            if kind.endswith("unary"):
                self._end(opened, grpc.StatusCode.OK)
            else:
                answer.add_done_callback(lambda done: self._end(opened, done.code()))
            return answer

        return called

    def _begin(self) -> _Opened:
        over = None
        with self._lock:
            if self._failing_since is not None and time.monotonic() - self._failing_since > RENEW_S:
                if self._current.calls:
                    self._former.add(self._current)
                else:
                    over = self._current
                self._current, self._failing_since = _Opened(self._open()), None
            self._current.calls += 1
            current = self._current
        if over is not None:
            _close_aside(over)
        return current

    def _end(self, opened: _Opened, code: grpc.StatusCode | None) -> None:
        with self._lock:
            opened.calls -= 1
            if opened is self._current:
                if code is not grpc.StatusCode.UNAVAILABLE:
                    self._failing_since = None
                elif self._failing_since is None:
                    self._failing_since = time.monotonic()
            over = opened in self._former and not opened.calls
            if over:
                self._former.remove(opened)
        if over:
            _close_aside(opened)


def _close_aside(opened: _Opened) -> None:
    """Closes in a thread of its own: gRPC's close waits for gRPC's threads, and one of them may be calling."""
    threading.Thread(target=opened.channel.close, daemon=True).start()
