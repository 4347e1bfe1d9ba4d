"""A service's real server inside the test's process, on a port of the system's choice."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from services.runtime.server import Server
from services.runtime.statuses import details_of

# Settings of every server under test: free ports, this machine only, no waiting at the end.
LOCAL: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "metrics_port": 0,
    "drain_s": 0.0,
    "clear_text": True,
    "health_interval_s": 60.0,
    "health_timeout_s": 60.0,  # a loaded machine takes longer than a production's three seconds
}


_started: set[Server] = set()
_stuck: set[threading.Thread] = set()


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the started server, which stops at the end."""
    await server.start()
    _started.add(server)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop()
        _started.remove(server)
        if not _started:  # another replica under test still has its own
            await database_threads_ended()


async def database_threads_ended() -> None:
    """aiosqlite's threads report to the event loop last of all, also after a failed connect that nobody awaits.

    A test whose loop closes first would fail for it. On a loaded machine one has been seen that never ended: it is
    waited for once, and not by every test that comes after it.
    """
    with suppress(TimeoutError):
        await asyncio.wait_for(no_database_thread(), 10)
    _stuck.update(database_threads())


async def no_database_thread() -> None:
    """Returns when none is left but those that are known to be stuck."""
    while database_threads() - _stuck:
        await asyncio.sleep(0.005)


def database_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name}


async def token_of_a_killed_process() -> str:
    """A claim's token, as the process that made it leaves it behind when it is killed."""
    code = "from services.runtime.leases import new_token; print(new_token(), flush=True); input()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    token = (await process.stdout.readline()).decode().strip()
    process.kill()
    await process.communicate()
    return token


class Failure:
    """What a failed call told its caller."""

    code: grpc.StatusCode
    message: str
    fields: dict[str, str]  # of google.rpc.BadRequest
    reason: str  # of google.rpc.ErrorInfo
    retryable: bool  # whether there is a google.rpc.RetryInfo
    trace_id: str  # of the trailing metadata
    trailers: dict[str, str | bytes]


@asynccontextmanager
async def failing() -> AsyncIterator[Failure]:
    """Expects the call inside to fail, and says afterwards how it did."""
    failure = Failure()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield failure
    details = details_of(caught.value.trailing_metadata())
    bad = [d for d in details if isinstance(d, error_details_pb2.BadRequest)]
    failure.code = caught.value.code()
    failure.message = caught.value.details() or ""
    failure.fields = {v.field: v.description for d in bad for v in d.field_violations}
    failure.reason = next((d.reason for d in details if isinstance(d, error_details_pb2.ErrorInfo)), "")
    failure.retryable = any(isinstance(d, error_details_pb2.RetryInfo) for d in details)
    failure.trailers = dict(caught.value.trailing_metadata() or ())
    failure.trace_id = str(failure.trailers.get("trace-id", ""))
