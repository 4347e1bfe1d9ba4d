"""Times go into messages to the microsecond."""

import time
from datetime import UTC, datetime

from services.runtime.clock import now_us, timestamp


def test_the_clock_counts_microseconds_since_1970() -> None:
    assert abs(now_us() / 1e6 - time.time()) < 5


def test_a_time_keeps_its_microseconds_in_a_message() -> None:
    assert timestamp(1_767_323_045_678_901).ToDatetime(UTC) == datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert timestamp(0).ToNanoseconds() == 0
