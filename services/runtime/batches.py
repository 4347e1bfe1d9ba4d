"""Work that costs almost the same for many items as for one, such as a synced commit: done together for all who wait.

What comes while a batch is at work waits and is the next batch; what comes while none is begins at once. So a lone
caller waits for nobody, and many callers share the cost. It knows tasks and errors. It does not know the work.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from services.runtime.errors import RetryableError, Unavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_Entry = tuple[Sequence[Any], "asyncio.Future[Sequence[Any]]"]  # a caller's items, and what it waits for


class Batches(Generic[Item, Outcome]):
    """`work` gives an outcome for each of its items, in their order; it gets `most` of them, or one caller's more.

    At most `at_once` batches are at work. A batch belongs to no call: it goes on when a caller is cancelled, and has
    neither the deadline nor the trace of one.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]], *, most: int, at_once: int = 1
    ) -> None:
        self._work = work
        self._most = most
        self._at_once = at_once
        self._waiting: deque[_Entry] = deque()
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """The outcomes of one caller's items, which stay together; raises what the work raises."""
        if not items:
            return []
        done: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        self._begin()
        return await done

    async def stop(self) -> None:
        """Ends what is at work; whoever waits hears Unavailable."""
        waiting, self._waiting = self._waiting, deque()
        _fail(waiting, _stopping())
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def _begin(self) -> None:
        while self._waiting and len(self._working) < self._at_once:
            task = asyncio.create_task(self._serve(self._next()), context=contextvars.Context())
            self._working.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._working.discard(task)
        self._begin()

    def _next(self) -> list[_Entry]:
        batch = [self._waiting.popleft()]
        count = len(batch[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= self._most:
            batch.append(self._waiting.popleft())
            count += len(batch[-1][0])
        return batch

    async def _serve(self, batch: Sequence[_Entry]) -> None:
        try:
            outcomes = await self._work([item for items, _ in batch for item in items])
            begin = 0
            for items, done in batch:
                if not done.done():
                    done.set_result(outcomes[begin : begin + len(items)])
                begin += len(items)
        except RetryableError as error:
            _fail(batch, error)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch, error)
            for entry in batch if len(batch) > 1 else ():  # a fault with the items of one caller is not the others'
                await self._serve([entry])
        finally:
            _fail(batch, _stopping())  # of those who have not heard by now


def _fail(batch: Iterable[_Entry], error: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)


def _stopping() -> Unavailable:
    return Unavailable("service", "is stopping")
