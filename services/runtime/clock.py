"""The services' time: whole microseconds since 1970, UTC, which compare the same way in every database.

It knows one clock and its form in messages. deadlines.py has a clock for deadlines, which need no calendar.
"""

import time
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

Clock = Callable[[], int]  # microseconds since 1970, UTC


def now_us() -> int:
    """The machine's own clock."""
    return time.time_ns() // 1000


def timestamp(microseconds: int) -> Timestamp:
    """The same time in a message."""
    message = Timestamp()
    message.FromMicroseconds(microseconds)
    return message
