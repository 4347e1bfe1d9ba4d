"""The parts of a round, each painted by one release, as one: in step, and in the order of seeds.

It knows the events of painting; not releases, nor what paints.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TypeVar

from services.generation.assigning import CannotServe
from services.generation.orders import Progress
from services.generation.painting import Painted

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Some of a round's candidates."""

    places: Sequence[int]  # in the order of seeds
    events: AsyncGenerator[Progress | Painted]  # as many of Progress in each part


async def in_step(parts: Sequence[Part]) -> AsyncGenerator[Progress | Painted]:
    """Runs the parts side by side, a step of all at a time; ends them all where one fails."""
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(aclosing(part.events))
        is_done = False
        while not is_done:
            events = await _all_next(parts)
            painted = [event for event in events if isinstance(event, Painted)]
            is_done = bool(painted)
            yield _painted(parts, painted) if is_done else _progress(parts, events)


async def _all_next(parts: Sequence[Part]) -> list[Progress | Painted]:
    """Waits for every part, since none can be ended within a step; of several failures raises one that is final."""
    found = await asyncio.gather(*(anext(part.events) for part in parts), return_exceptions=True)
    failures = [failure for failure in found if isinstance(failure, BaseException)]
    if failures:
        raise min(failures, key=lambda failure: isinstance(failure, CannotServe))
    return [event for event in found if not isinstance(event, BaseException)]


def _progress(parts: Sequence[Part], events: Sequence[Progress | Painted]) -> Progress:
    progress = [event for event in events if isinstance(event, Progress)]
    previews = _in_order(parts, [event.previews for event in progress])
    return Progress(progress[0].step, progress[0].num_steps, previews)


def _painted(parts: Sequence[Part], painted: Sequence[Painted]) -> Painted:
    return Painted(
        seeds=_in_order(parts, [of.seeds for of in painted]),
        wishes=_in_order(parts, [of.wishes for of in painted]),
        pngs=_in_order(parts, [of.pngs for of in painted]),
    )


def _in_order(parts: Sequence[Part], of_parts: Sequence[Sequence[T]]) -> tuple[T, ...]:
    """What each part has for each of its candidates, by their places; nothing where the parts have nothing."""
    found: dict[int, T] = {}
    for part, items in zip(parts, of_parts, strict=True):
        if items:
            found |= zip(part.places, items, strict=True)
    return tuple(found[place] for place in sorted(found))
