"""Work that a service does beside its calls: again and again until it is cancelled.

The server starts it and cancels it (server.py). It does not know what the work is.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from services.runtime.errors import RetryableError

_log = logging.getLogger(__name__)

Worker = Callable[[], Coroutine[Any, Any, None]]  # runs until it is cancelled


async def repeat(work: Callable[[], Awaitable[object]], *, name: str, interval_s: float) -> None:
    """Works, pauses for half of the interval to all of it (replicas must not work in step), and works again."""
    while True:
        try:
            await work()
        except Exception as error:  # the database is away, say: the next turn may succeed
            _log.warning("%s failed: %s", name, error, exc_info=not isinstance(error, RetryableError))
        await asyncio.sleep(interval_s * random.uniform(0.5, 1.0))
