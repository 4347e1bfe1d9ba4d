"""What remains of a call's time."""

import asyncio

import pytest

from services.runtime.deadlines import deadline_in, is_over, remaining_s
from services.runtime.errors import DeadlineExceeded


def test_without_a_deadline_the_limit_is_what_remains() -> None:
    assert remaining_s(3.0) == 3.0


def test_the_nearer_of_two_deadlines_counts() -> None:
    with deadline_in(40.0):
        with deadline_in(50.0):
            assert remaining_s(60.0) <= 40.0
        with deadline_in(10.0):
            assert remaining_s(60.0) <= 10.0
        assert 10.0 < remaining_s(60.0) <= 40.0
    assert remaining_s(60.0) == 60.0


def test_a_passed_deadline_raises() -> None:
    with deadline_in(0.0), pytest.raises(DeadlineExceeded):
        remaining_s(1.0)


async def test_tasks_have_their_own_deadlines() -> None:
    async def inside(seconds: float) -> float:
        with deadline_in(seconds):
            await asyncio.sleep(0.01)
            return remaining_s(60.0)

    short, long = await asyncio.gather(inside(10.0), inside(50.0))
    assert short <= 10.0 < 11.0 < long <= 50.0


def test_a_callers_cancellation_near_its_deadline_counts_as_its_deadline() -> None:
    assert not is_over()
    with deadline_in(30.0):
        assert not is_over()
        with deadline_in(0.04):  # less than clocks differ by
            assert is_over()
        assert not is_over()
    assert not is_over()
