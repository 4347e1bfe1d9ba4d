"""An import as its client sees it: picks go in, each comes out with what became of it, also where streams were cut.

It knows the order in which a stream is answered, when a pick or a stream is tried again, and how many picks may be
without an answer. It does not know channels, nor what is wrong with a pick that is refused.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import grpc

from perfusion.client._attempts import Backoff
from perfusion.client._errors import (
    DeadlineExceeded,
    PerFusionError,
    RetryableError,
    ServiceFault,
    error_of,
    error_of_status,
)
from perfusion.v1.feedback_service_pb2 import (
    ImportFeedbackRequest,
    ImportFeedbackResponse,
    SubmitFeedbackRequest,
    SubmitFeedbackResponse,
)

PART_PICKS, PART_BYTES = 100, 2**18  # of one message; the service takes a MiB
STREAM_S, STREAM_LIMIT_S = 60.0, 120.0  # a stream takes no more picks after the one, and is given up after the other
STREAM_PICKS = 100_000

Outcome = tuple[SubmitFeedbackRequest, SubmitFeedbackResponse | PerFusionError]


@dataclass
class _Sent:
    """A pick on its way, and since when and how often it has failed."""

    pick: SubmitFeedbackRequest
    failures: int = 0
    give_up_at: float = 0.0
    due: float = 0.0  # when it is sent again


@dataclass
class _Stream:
    """One stream: its call, and the parts that it has not answered, in their order."""

    call: Any
    messages: SimpleQueue[ImportFeedbackRequest | None]
    begin: float
    parts: deque[list[_Sent]] = field(default_factory=deque)
    picks: int = 0
    is_ending: bool = False


class Import:
    """One import. `start(requests, timeout_s)` begins a stream; a pick or stream is tried again for `timeout_s`."""

    def __init__(
        self,
        start: Callable[[Iterator[ImportFeedbackRequest], float], Any],
        picks: Iterable[SubmitFeedbackRequest],
        *,
        window: int,
        timeout_s: float,
        backoff: Backoff,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self._start = start
        self._picks = iter(picks)
        self._window = window
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._again: deque[_Sent] = deque()  # what a cut stream did not answer, in its order: before anything new
        self._waiting: list[_Sent] = []  # what failed and is sent again later
        self._unanswered = 0
        self._is_exhausted = False
        self._stream: _Stream | None = None
        self._failures = 0  # of streams in a row
        self._give_up_at = 0.0

    def outcomes(self) -> Iterator[Outcome]:
        """Each pick with its response, or with the error that remains; those of one stream in the order of the picks.

        Raises the typed error of a stream that does not help to try again.
        """
        try:
            while True:
                self._send()
                if self._stream is not None:
                    yield from self._received(self._stream)
                elif self._waiting:
                    time.sleep(max(0.0, min(each.due for each in self._waiting) - time.monotonic()))
                elif self._is_exhausted and not self._again:
                    return
        finally:
            if self._stream is not None:
                self._stream.call.cancel()
                self._end(self._stream)

    def _send(self) -> None:
        """Sends while there is room for it; ends a stream that is old, or when there is nothing left to send."""
        while self._unanswered < self._window and not (self._stream is not None and self._stream.is_ending):
            part = self._next_part()
            if not part:
                break
            stream = self._stream = self._stream or self._begin()
            stream.parts.append(part)
            stream.picks += len(part)
            self._unanswered += len(part)
            stream.messages.put(ImportFeedbackRequest(requests=[each.pick for each in part]))
            if stream.picks >= STREAM_PICKS or time.monotonic() - stream.begin > STREAM_S:
                self._end(stream)
        if self._stream is not None and not self._stream.parts and not self._stream.is_ending:
            self._end(self._stream)

    def _begin(self) -> _Stream:
        messages: SimpleQueue[ImportFeedbackRequest | None] = SimpleQueue()
        return _Stream(self._start(iter(messages.get, None), STREAM_LIMIT_S), messages, time.monotonic())

    def _end(self, stream: _Stream) -> None:
        stream.is_ending = True
        stream.messages.put(None)

    def _next_part(self) -> list[_Sent]:
        part: list[_Sent] = []
        size = 0
        most = min(PART_PICKS, self._window - self._unanswered)
        while len(part) < most and size < PART_BYTES and (each := self._next()) is not None:
            part.append(each)
            size += each.pick.ByteSize()
        return part

    def _next(self) -> _Sent | None:
        if self._again:
            return self._again.popleft()
        if self._waiting and self._waiting[0].due <= time.monotonic():
            return self._waiting.pop(0)
        if not self._is_exhausted:
            for pick in self._picks:
                return _Sent(pick)
            self._is_exhausted = True
        return None

    def _received(self, stream: _Stream) -> Iterator[Outcome]:
        """The outcomes of the next part that is answered; nothing when the stream has ended or was cut."""
        try:
            response: ImportFeedbackResponse = next(stream.call)
            part = stream.parts.popleft()
        except StopIteration:
            self._cut(stream, None)
            return
        except grpc.RpcError as failure:
            self._cut(stream, failure)
            return
        self._failures = 0
        self._unanswered -= len(part)
        for each, result in zip(part, response.results, strict=True):
            if result.WhichOneof("outcome") == "response":
                yield each.pick, result.response
                continue
            error = error_of_status(result.status)
            if not self._is_tried_again(each, error):
                yield each.pick, error

    def _is_tried_again(self, failed: _Sent, error: PerFusionError) -> bool:
        """Whether a pick that failed is sent once more, and notes when."""
        now = time.monotonic()
        failed.failures += 1
        failed.give_up_at = failed.give_up_at or now + self._timeout_s
        failed.due = now + self._backoff.wait_s(failed.failures, error.retry_after_s)
        if not isinstance(error, (RetryableError, DeadlineExceeded)) or failed.due >= failed.give_up_at:
            return False
        self._waiting.append(failed)
        self._waiting.sort(key=lambda each: each.due)
        return True

    def _cut(self, stream: _Stream, failure: grpc.RpcError | None) -> None:
        """Ready for another stream, which begins with what this one did not answer; raises where none helps."""
        self._end(stream)  # gRPC's thread that sends may still wait for a message
        self._stream = None
        left = [each for part in stream.parts for each in part]
        self._again.extendleft(reversed(left))
        self._unanswered -= len(left)
        if failure is None:
            if left:
                raise ServiceFault("the stream ended without all its answers", grpc.StatusCode.UNKNOWN)
            return
        error, now = error_of(failure), time.monotonic()
        if self._failures == 0:
            self._give_up_at = now + self._timeout_s
        self._failures += 1
        wait_s = self._backoff.wait_s(self._failures, error.retry_after_s)
        if not isinstance(error, (RetryableError, DeadlineExceeded)) or now + wait_s >= self._give_up_at:
            raise error from failure
        time.sleep(wait_s)
