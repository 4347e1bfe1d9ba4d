"""The services' time: whole microseconds since 1970, UTC. It informs; no order, lease or deadline goes by it.

It knows one clock and its form in messages. Databases count orders (outbox.py); leases (leases.py) and deadlines
(deadlines.py) go by a clock without calendar.
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
