"""The calls in flight: how many there may be, how long each may take, and how all are ended early.

It knows tasks and time. It does not know what a call does, nor gRPC.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from services.runtime.errors import DeadlineExceeded, ResourceExhausted, Unavailable


class Calls:
    """At most `most` at once, each in a task of its own; `what` names them in errors."""

    def __init__(self, most: int, what: str = "calls") -> None:
        self._most = most
        self._what = what
        self._scopes: set[asyncio.Timeout] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._stopping = False

    @asynccontextmanager
    async def one(self, seconds: float | None) -> AsyncIterator[None]:
        """Everything inside has so many seconds, or no limit.

        Raises ResourceExhausted when there are too many calls, DeadlineExceeded when the time is up, and Unavailable
        when `cut` ends the call. What is inside is cancelled then, and has unwound when this raises.
        """
        if len(self._scopes) >= self._most:
            raise ResourceExhausted(f"more than {self._most} {self._what} in flight")
        self._watch_task()
        scope = asyncio.timeout(0 if self._stopping else seconds)
        self._scopes.add(scope)
        try:
            async with scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise (_stopping() if self._stopping else DeadlineExceeded()) from error.__cause__
        finally:
            self._scopes.discard(scope)

    def _watch_task(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self, within_s: float) -> bool:
        """Waits until no call is in flight any more, its answer sent; False when some are after so many seconds."""
        if self._tasks and within_s > 0:
            await asyncio.wait(self._tasks, timeout=within_s)
        return not self._tasks

    def cut(self) -> None:
        """Ends every call now, as Unavailable, and each that would still begin."""
        self._stopping = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)


class Shares:
    """The calls of clients: `most` is what one may have, `of_all` what all of them may."""

    def __init__(self, most: int, of_all: int) -> None:
        self._most, self._of_all = most, of_all
        self._held: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Raises ResourceExhausted when the caller has all that it may."""
        if self._held[caller] >= self._most:
            raise ResourceExhausted(f"{caller} has {self._most} calls in flight, which is all that one client may")
        if self._held.total() >= self._of_all:
            raise ResourceExhausted(f"clients have {self._of_all} calls in flight, which is all that they may")
        self._held[caller] += 1
        try:
            yield
        finally:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


def detached(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Work that goes on when the call that began it is cancelled, and that may fail unheard."""

    def heard(ended: "asyncio.Task[None]") -> None:
        if not ended.cancelled():
            ended.exception()

    task = asyncio.create_task(work)
    task.add_done_callback(heard)
    return task


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Work that is not cancelled with its caller, who waits for its end all the same."""
    task = detached(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _stopping() -> Unavailable:
    return Unavailable("service", "is stopping")
