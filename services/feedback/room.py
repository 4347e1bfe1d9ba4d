"""Room for so many picks at once: who finds none waits in line, for a bounded time.

It knows places and time. It does not know what a pick is, nor what is done with it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.errors import ResourceExhausted

_SOONEST_S, _LATEST_S = 0.05, 5.0  # when a caller may be told to come again


class Room:
    """So many places, given in the order in which they are asked for."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._took_s = _SOONEST_S  # what the work that ended last took, its wait left out

    @asynccontextmanager
    async def taken(self, wait_s: float) -> AsyncIterator[None]:
        """One place for what is inside.

        Raises:
            ResourceExhausted: there was none for `wait_s`; it may be tried again after as long as the work takes now.
        """
        try:
            async with asyncio.timeout(wait_s):
                await self.take(1)
        except TimeoutError as error:
            full = ResourceExhausted(f"more than {self._places} picks in flight")
            full.retry_after_s = min(max(self._took_s, _SOONEST_S), _LATEST_S)
            raise full from error
        begin = time.monotonic()
        try:
            yield
        finally:
            self._took_s = time.monotonic() - begin
            self.give(1)

    async def take(self, count: int) -> None:
        """Waits for `count` places, or for all where there are fewer."""
        count = min(count, self._places)
        if not self._line and count <= self._free:
            self._free -= count
            return
        mine = (count, asyncio.get_running_loop().create_future())
        self._line.append(mine)
        try:
            await mine[1]
        except asyncio.CancelledError:
            if mine in self._line:
                self._line.remove(mine)
                self._serve()
            else:  # they were given in the same moment
                self.give(count)
            raise

    def give(self, count: int) -> None:
        """Gives places back, as many as were taken."""
        self._free += min(count, self._places)
        self._serve()

    def _serve(self) -> None:
        while self._line and self._line[0][0] <= self._free:
            count, waiting = self._line.popleft()
            self._free -= count
            waiting.set_result(None)
