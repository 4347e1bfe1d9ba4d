"""Writes answers to callers who may not read them: each waits so long, and only so many stay unread.

It knows how gRPC writes. It does not know what is written.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc

from services.runtime import connections
from services.runtime.calls import detached
from services.runtime.errors import DeadlineExceeded, MessageTooLarge

_log = logging.getLogger(__name__)

if TYPE_CHECKING:  # the stubs make it generic in request and response; the class itself is not
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext


class Writer:
    """One per server.

    A write that nobody reads is given up by us, but not by gRPC, which keeps the message, and the status behind it,
    until the connection ends. Of more than `most_unread` such messages the oldest one's connection is closed.
    """

    def __init__(self, *, timeout_s: float, most_bytes: int, most_unread: int) -> None:
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._most_unread = most_unread
        self._unread: dict[asyncio.Future[None], str] = {}  # in the order in which they were given up

    async def write(self, context: Context, answer: bytes, *, is_first: bool) -> None:
        """Sends one message, once the caller takes it; MessageTooLarge, or DeadlineExceeded when it does not."""
        if len(answer) > self._most_bytes:
            raise MessageTooLarge(f"the answer has {len(answer)} bytes, the limit is {self._most_bytes}")
        # gRPC's own write is never cancelled: it would keep the message all the same, and no status could follow.
        sending = detached(_send(context, answer, is_first))
        try:
            done, _ = await asyncio.wait({sending}, timeout=self._timeout_s)
        finally:
            if not sending.done():
                self._give_up(sending, context.peer())
        if not done:
            raise DeadlineExceeded("the caller reads its answer too slowly")
        await sending

    def _give_up(self, sending: "asyncio.Future[None]", peer: str) -> None:
        self._unread[sending] = peer
        sending.add_done_callback(lambda ended: self._unread.pop(ended, None))
        if len(self._unread) > self._most_unread:
            oldest = next(iter(self._unread))
            slow = self._unread.pop(oldest)
            _log.warning(
                "closing a connection whose answers nobody reads",
                extra={"peer": slow, "closed": connections.close(slow)},
            )


async def _send(context: Context, answer: bytes, is_first: bool) -> None:
    if is_first:  # by itself: within a write that is stuck, no status could follow it
        await context.send_initial_metadata(())
    await context.write(answer)
