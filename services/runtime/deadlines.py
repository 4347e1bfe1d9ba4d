"""The remaining time of the call being served, which every outgoing call passes on.

The interceptor opens a deadline per call; code below asks `remaining_s`. It knows clocks only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.runtime.errors import DeadlineExceeded

# gRPC rounds a timeout up on its way, to three digits: a caller gives up a little before the deadline that we know of.
ROUNDED = 0.01
CLOCKS_DIFFER_S = 0.05

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_given_up: ContextVar[float] = ContextVar("given_up", default=float("inf"))  # when the caller may have given up


@contextmanager
def deadline_in(seconds: float) -> Iterator[None]:
    """Everything inside has `seconds` from now, or less when an outer deadline is nearer."""
    outer, outer_given_up, now = _deadline.get(), _given_up.get(), time.monotonic()
    _deadline.set(now + seconds if outer is None else min(now + seconds, outer))
    _given_up.set(min(now + seconds * (1 - ROUNDED) - CLOCKS_DIFFER_S, outer_given_up))
    try:
        yield
    finally:
        # Not reset(token): a stream's generator may be closed from another context than the one that opened it.
        _deadline.set(outer)
        _given_up.set(outer_given_up)


def is_over() -> bool:
    """Whether a call that is cancelled now is cancelled because its time has run out."""
    return time.monotonic() >= _given_up.get()


def remaining_s(at_most_s: float) -> float:
    """Seconds left, at most `at_most_s`; DeadlineExceeded when none are."""
    deadline = _deadline.get()
    if deadline is None:
        return at_most_s
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded
    return min(left, at_most_s)
