"""The remaining time of the call being served, which every outgoing call passes on.

The interceptor opens a deadline per call; code below asks `remaining_s`. It knows clocks only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.runtime.errors import DeadlineExceeded

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline_in(seconds: float) -> Iterator[None]:
    """Everything inside has `seconds` from now, or less when an outer deadline is nearer."""
    outer = _deadline.get()
    mine = time.monotonic() + seconds
    _deadline.set(mine if outer is None else min(mine, outer))
    try:
        yield
    finally:
        # Not reset(token): a stream's generator may be closed from another context than the one that opened it.
        _deadline.set(outer)


def remaining_s(at_most_s: float) -> float:
    """Seconds left, at most `at_most_s`; DeadlineExceeded when none are."""
    deadline = _deadline.get()
    if deadline is None:
        return at_most_s
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded
    return min(left, at_most_s)
