"""One round as its client sees it: the events of Generate's stream, whole, also where the connection was not.

It knows the order of the events and what a cut leaves: the same request is sent again, with the same request_id, and
the service gives the group that it already has, or begins anew. It does not know channels, nor how requests are built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import grpc

from perfusion.client._attempts import Attempts
from perfusion.client._errors import ServiceFault
from perfusion.v1.generation_service_pb2 import (
    GenerateAccepted,
    GenerateProgress,
    GenerateQueued,
    GenerateRequest,
    GenerateResponse,
)
from perfusion.v1.group_pb2 import Group

Event = GenerateAccepted | GenerateQueued | GenerateProgress | Group


class Round(Iterator[Event]):
    """Iterates over `accepted`, `queued` while it waits, `progress` per step, and the group.

    The group comes only after the stream has ended OK.

    The call, and its time, begin with the first event that is asked for. After a cut, `accepted` is not given again
    unless the round got another group id or release, and `progress` may begin again with step 1.
    Closing the round, or dropping it, cancels the call.
    """

    def __init__(
        self,
        start: Callable[[GenerateRequest, float], Any],
        request: GenerateRequest,
        attempts: Callable[[Callable[[float], object]], Attempts],
    ) -> None:
        """`start(request, timeout_s)` begins a stream; `attempts(wait)` begins to count time, and waits by `wait`."""
        self.request_id = request.request_id
        self._start = start
        self._request = request
        self._count = attempts
        self._attempts: Attempts | None = None
        self._stream: Any = None  # of the attempt in progress; grpc's stubs have no one type for a call that iterates
        self._accepted: GenerateAccepted | None = None
        self._received_group: Group | None = None  # kept back until the stream has ended OK
        self._group: Group | None = None
        self._ended = threading.Event()  # set by another thread too, so that close() also ends a wait

    def __next__(self) -> Event:
        while not self._ended.is_set():
            try:
                event = self._received()
            except StopIteration:
                return self._last()
            except grpc.RpcError as failure:
                self._cut(failure)
                continue
            if event is not None:
                return event
        raise StopIteration

    def group(self) -> Group:
        """The group; runs the round to its end."""
        for event in self:
            if isinstance(event, Group):
                return event
        if self._group is None:
            raise RuntimeError("the round was closed or failed before it had a group")
        return self._group

    def close(self) -> None:
        """Cancels the call, from any thread. A round that has ended stays as it is."""
        self._ended.set()
        if self._stream is not None:
            self._stream.cancel()

    def __enter__(self) -> Round:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ended"):
            self.close()

    def _received(self) -> Event | None:
        """The next message's event; None for one that is kept back or was given before."""
        if self._attempts is None:
            self._attempts = self._count(self._ended.wait)
        if self._stream is None:
            self._stream = self._start(self._request, self._attempts.left_s())
            if self._ended.is_set():  # close() came in between and found no stream
                self._stream.cancel()
        response: GenerateResponse = next(self._stream)
        kind = response.WhichOneof("event")
        if kind == "progress":
            self._attempts.succeeded()
            return response.progress
        if kind == "queued":
            return response.queued
        if kind == "group":
            self._received_group = response.group
        elif kind == "accepted" and response.accepted != self._accepted:
            self._accepted = response.accepted
            return response.accepted
        return None

    def _last(self) -> Group:
        """The stream has ended OK: now the group is the client's."""
        self._ended.set()
        if self._received_group is None:
            raise ServiceFault("the stream ended without a group", grpc.StatusCode.UNKNOWN)
        self._group = self._received_group
        return self._group

    def _cut(self, failure: grpc.RpcError) -> None:
        """Ready for another attempt; raises the typed error where none helps. Nothing to do after close()."""
        self._stream = self._received_group = None
        if self._ended.is_set() or self._attempts is None:
            return
        try:
            self._attempts.failed(failure)
        except Exception:
            self._ended.set()
            raise
