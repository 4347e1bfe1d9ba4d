"""Work for many at once: gathered while a batch is at work, given to each its own, and no caller pays for another."""

import asyncio
from collections.abc import Sequence

import pytest

from services.runtime.batches import Batches
from services.runtime.errors import Unavailable


class Work:
    """Doubles numbers. It waits while `hold` is clear, and cannot work with `bad`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.hold = asyncio.Event()
        self.bad: set[int] = set()
        self.down = False

    async def __call__(self, numbers: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(numbers))
        await self.hold.wait()
        if self.down:
            raise Unavailable("database")
        if self.bad & set(numbers):
            raise ValueError("a bad number")
        return [2 * number for number in numbers]


async def begun(work: Work, batches: Batches[int, int], callers: Sequence[Sequence[int]]) -> list[asyncio.Task[object]]:
    """Callers in their order, whose first is at work."""
    tasks: list[asyncio.Task[object]] = []
    for numbers in callers:
        tasks.append(asyncio.create_task(batches.run(numbers)))
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_batch_is_the_next_one_and_each_gets_its_own() -> None:
    work = Work()
    batches: Batches[int, int] = Batches(work, most=4)
    tasks = await begun(work, batches, [[1], [2, 3], [], [4], [5, 6], list(range(10, 20))])
    work.hold.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [], [8], [10, 12], list(range(20, 40, 2))]
    assert work.batches == [[1], [2, 3, 4], [5, 6], list(range(10, 20))]  # no caller's items are parted


async def test_several_batches_may_be_at_work() -> None:
    work = Work()
    batches: Batches[int, int] = Batches(work, most=4, at_once=2)
    tasks = await begun(work, batches, [[1], [2], [3], [4]])
    await asyncio.sleep(0)
    assert work.batches == [[1], [2]]
    work.hold.set()
    assert await asyncio.gather(*tasks) == [[2], [4], [6], [8]]


async def test_a_fault_with_the_items_of_one_caller_is_not_the_others() -> None:
    work = Work()
    work.bad = {3}
    batches: Batches[int, int] = Batches(work, most=9)
    tasks = await begun(work, batches, [[1], [2], [3], [4]])
    work.hold.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told[:2] == [[2], [4]] and told[3] == [8]
    assert isinstance(told[2], ValueError)


async def test_what_all_hear_alike_is_not_tried_for_each() -> None:
    work = Work()
    work.down = True
    batches: Batches[int, int] = Batches(work, most=9)
    tasks = await begun(work, batches, [[1], [2], [3]])
    work.hold.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable] * 3
    assert work.batches == [[1], [2, 3]]


async def test_a_caller_who_leaves_takes_nothing_with_him() -> None:
    work = Work()
    batches: Batches[int, int] = Batches(work, most=9)
    tasks = await begun(work, batches, [[1], [2], [3]])
    tasks[0].cancel()
    tasks[1].cancel()
    work.hold.set()
    assert await tasks[2] == [6]
    assert work.batches == [[1], [2, 3]]


async def test_a_stop_leaves_nobody_waiting() -> None:
    work = Work()
    batches: Batches[int, int] = Batches(work, most=9)
    tasks = await begun(work, batches, [[1], [2]])
    await batches.stop()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(Unavailable, match="is stopping"):
        raise told[0]  # type: ignore[misc]
    assert [type(each) for each in told] == [Unavailable] * 2
