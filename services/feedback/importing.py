"""Imports: streams of many picks, recorded in their order, answered in their order, and bounded in every direction.

A stream comes in parts, one a message. Parts are looked up, published and acknowledged side by side, but stored one
after the other: so of two picks of one group the later one of the stream counts, whatever their lookups take. It is
read on only while fewer than `window` of its picks have no answer. It knows nothing of gRPC, SQL or Kafka.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from services.feedback.metrics import FeedbackMetrics
from services.feedback.picks import Feedback, Pick
from services.feedback.room import Room
from services.feedback.submission import Submissions
from services.runtime.errors import PermanentError, ResourceExhausted

Part = Sequence[Pick | PermanentError]  # of a stream; a pick that was refused for its form keeps its place
Outcomes = Sequence[Feedback | Exception]  # in the order of a part


@dataclass(frozen=True)
class Bounds:
    """What imports may take."""

    streams: int  # at once
    window: int  # picks of a stream without an answer
    picks: int  # of a stream in all


class Imports:
    """The imports of this process."""

    def __init__(self, submissions: Submissions, bounds: Bounds, metrics: FeedbackMetrics) -> None:
        self._submissions = submissions
        self._bounds = bounds
        self._metrics = metrics
        self._open = 0

    async def outcomes(self, parts: AsyncIterator[Part]) -> AsyncGenerator[Outcomes]:
        """The outcomes of each part, in the order of the parts.

        Raises, after the outcomes of what came before:
            RetryableError: a part could not be stored, and nothing after it is; there are too many streams or picks.
            InvalidArgument: what the caller sent is no part.
        """
        if self._open >= self._bounds.streams:
            raise ResourceExhausted(f"more than {self._bounds.streams} imports are open")
        self._open += 1
        stream = _Stream(self._submissions, self._bounds)
        try:
            async for outcomes in stream.run(parts):
                for outcome in outcomes:
                    self._metrics.count(outcome)
                yield outcomes
        finally:
            self._open -= 1


class _Stream:
    """One import."""

    def __init__(self, submissions: Submissions, bounds: Bounds) -> None:
        self._submissions = submissions
        self._bounds = bounds
        self._room = Room(bounds.window)
        self._begun: asyncio.Queue[tuple[int, asyncio.Task[Outcomes]] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Outcomes]] = set()

    async def run(self, parts: AsyncIterator[Part]) -> AsyncGenerator[Outcomes]:
        reading = asyncio.create_task(self._read(parts))
        try:
            while (begun := await self._begun.get()) is not None:
                count, part = begun
                yield await part
                self._room.give(count)
            await reading
        finally:
            for task in (reading, *self._tasks):
                task.cancel()
            await asyncio.gather(reading, *self._tasks, return_exceptions=True)

    async def _read(self, parts: AsyncIterator[Part]) -> None:
        """Begins each part once there is room for it."""
        total, turn = 0, asyncio.Event()
        turn.set()
        try:
            async for part in parts:
                count = max(1, len(part))  # an empty message takes memory, too
                total += count
                if total > self._bounds.picks:
                    raise ResourceExhausted(f"an import has at most {self._bounds.picks} picks; begin another")
                await self._room.take(count)
                before, turn = turn, asyncio.Event()
                task = asyncio.create_task(self._import(part, before, turn))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._begun.put_nowait((count, task))
        finally:
            self._begun.put_nowait(None)

    async def _import(self, part: Part, before: asyncio.Event, after: asyncio.Event) -> Outcomes:
        """Stores the part's picks when it is their turn, and says when it is the next part's."""
        picks = [pick for pick in part if isinstance(pick, Pick)]
        stored = iter(await self._submissions.record(picks, before.wait))
        after.set()
        whole = [next(stored) if isinstance(pick, Pick) else pick for pick in part]
        return await self._submissions.publish(whole)
