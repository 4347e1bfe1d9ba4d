"""A worker works again after a failure, and ends when it is cancelled."""

import asyncio
from contextlib import suppress

import pytest

from services.runtime.errors import Unavailable
from services.runtime.workers import repeat


async def test_a_worker_that_fails_works_again(caplog: pytest.LogCaptureFixture) -> None:
    turns, third = 0, asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise Unavailable("database")
        if turns == 2:
            raise ValueError("a fault of ours")
        third.set()

    task = asyncio.create_task(repeat(work, name="counting", interval_s=0.01))
    async with asyncio.timeout(20):
        await third.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert "counting failed: database does not answer" in caplog.text
    assert "ValueError" in caplog.text  # with its traceback, because nobody expected it
