"""Room for picks: places in the order of asking, none lost to whoever gives up, and a refusal that says how long."""

import asyncio

import pytest

from services.feedback.room import Room
from services.runtime.errors import ResourceExhausted


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_given_in_the_order_of_asking() -> None:
    room = Room(3)
    await room.take(2)
    large, small = asyncio.create_task(room.take(3)), asyncio.create_task(room.take(1))
    await settled()
    assert not large.done() and not small.done()  # the small one does not overtake
    room.give(2)
    await settled()
    assert large.done() and not small.done()
    room.give(3)
    await small


async def test_more_than_there_are_takes_all() -> None:
    room = Room(2)
    await room.take(100)
    waiting = asyncio.create_task(room.take(1))
    await settled()
    assert not waiting.done()
    room.give(100)
    await waiting
    await room.take(1)


async def test_who_gives_up_keeps_no_place_and_holds_up_nobody() -> None:
    room = Room(2)
    await room.take(1)
    large, small = asyncio.create_task(room.take(2)), asyncio.create_task(room.take(1))
    await settled()
    large.cancel()
    await settled()
    assert small.done()
    late = asyncio.create_task(room.take(1))
    await settled()
    room.give(1)
    late.cancel()  # in the moment in which it was given its place
    await settled()
    await asyncio.wait_for(room.take(1), 10)


async def test_a_refusal_says_how_long_work_takes_now() -> None:
    room = Room(1)
    async with room.taken(60):
        await asyncio.sleep(0.2)
    async with room.taken(60):
        with pytest.raises(ResourceExhausted, match="more than 1 picks") as refused:
            async with room.taken(0.01):
                pass
    assert refused.value.retry_after_s is not None and 0.2 <= refused.value.retry_after_s <= 5.0
    async with room.taken(60):
        pass
