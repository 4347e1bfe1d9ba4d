"""Calls in flight: their number, their time, and how all of them end early."""

import asyncio

import pytest

from services.runtime.calls import Calls
from services.runtime.errors import DeadlineExceeded, ResourceExhausted, Unavailable


async def held(calls: Calls, seconds: float | None = 60.0) -> None:
    async with calls.one(seconds):
        await asyncio.sleep(60)


async def begun(calls: Calls, number: int) -> list["asyncio.Task[None]"]:
    tasks = [asyncio.create_task(held(calls)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_one_too_many_is_refused_and_an_ended_one_leaves_its_place() -> None:
    calls = Calls(2, "things")
    first, second = await begun(calls, 2)
    with pytest.raises(ResourceExhausted, match="more than 2 things"):
        await held(calls)
    first.cancel()
    assert not await calls.ended(0.01)
    [third] = await begun(calls, 1)
    for task in (second, third):
        task.cancel()
    assert await calls.ended(10)


async def test_a_call_whose_time_is_up_has_cleaned_up_when_it_says_so() -> None:
    cleaned = []

    async def slow() -> None:
        async with Calls(1).one(0.05):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                cleaned.append(True)

    with pytest.raises(DeadlineExceeded):
        await slow()
    assert cleaned == [True]


async def test_without_a_limit_only_a_cut_ends_a_call() -> None:
    calls = Calls(1)
    task = asyncio.create_task(held(calls, None))
    await asyncio.sleep(0.05)
    calls.cut()
    with pytest.raises(Unavailable, match="is stopping"):
        await task


async def test_a_cut_ends_every_call_and_those_that_would_begin() -> None:
    calls = Calls(5)
    tasks = await begun(calls, 3)
    calls.cut()
    calls.cut()
    assert await calls.ended(10)
    assert [type(task.exception()) for task in tasks] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await held(calls)


async def test_a_timeout_of_the_works_own_is_not_the_calls() -> None:
    async def work() -> None:
        async with Calls(1).one(60.0):
            raise TimeoutError("a file")

    with pytest.raises(TimeoutError, match="a file"):
        await work()


async def test_a_cancelled_call_stays_cancelled() -> None:
    [task] = await begun(Calls(1), 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
