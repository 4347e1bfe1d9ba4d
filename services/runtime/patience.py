"""How long a call is asked again whose server cannot answer it just now.

Models and rankings are functions: asked again, they say the same, and nothing of a call is left behind. So who waits
decides. A call that begins something is told at once that a server is gone; work that has begun outlasts it, while its
deadline allows; and a caller that has another way is impatient. Knows clocks and errors, no server.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

from services.runtime.deadlines import remaining_s
from services.runtime.errors import Unavailable

T = TypeVar("T")

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.2  # between two attempts
_IMPATIENT_S = 0.2  # enough for another instance to be asked, not for one to be revived

_patience_s: ContextVar[float] = ContextVar("patience_s", default=math.inf)
_outlasts: ContextVar[bool] = ContextVar("outlasts", default=False)


def impatient() -> AbstractContextManager[None]:
    """What fails inside is asked again for a moment only: the caller has another way."""
    return _inside(_patience_s, _IMPATIENT_S)


def outlasting() -> AbstractContextManager[None]:
    """Inside is work that has begun: a server that is gone, or that has restarted, is waited for."""
    return _inside(_outlasts, True)


@contextmanager
def _inside(variable: ContextVar[T], value: T) -> Iterator[None]:
    before = variable.get()
    variable.set(value)
    try:
        yield
    finally:  # not reset(token): a stream's generator may be closed from another context than the one that opened it
        variable.set(before)


async def asked_again(
    ask: Callable[[], Awaitable[T]], failed: type[Unavailable] | None, limit_s: float, outlasting_s: float = math.inf
) -> T:
    """The answer, after as many attempts as there is time for; the last failure when there is no more.

    Args:
        failed: what is always asked again, for up to `limit_s`; None: nothing is, but in work that has begun.
        outlasting_s: longest wait of work that has begun, which keeps its place meanwhile.
    """
    if _outlasts.get():
        failed, limit_s = Unavailable, outlasting_s
    ends, pause_s = time.monotonic() + min(remaining_s(limit_s), _patience_s.get()), _SHORTEST_PAUSE_S
    while True:
        try:
            return await ask()
        except Unavailable as error:
            if failed is None or not isinstance(error, failed) or time.monotonic() + pause_s > ends:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
