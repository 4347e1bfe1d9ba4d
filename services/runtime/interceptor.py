"""Wraps every RPC: trace, deadline, concurrency limit, metrics, one log line, and errors to statuses.

It knows nothing of what an RPC does. Health checks and reflection pass untouched, so that a full server stays healthy.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from services.runtime import tracing
from services.runtime.deadlines import deadline_in
from services.runtime.errors import ResourceExhausted, ServiceError
from services.runtime.metrics import RpcMetrics
from services.runtime.statuses import DETAILS_KEY, to_status

INTERNAL_MESSAGE = "internal error; the service's log has the details under this call's trace id"

_log = logging.getLogger(__name__)

# The stubs make these generic in request and response; the classes themselves are not.
if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
    _Context = grpc.aio.ServicerContext[Any, Any]
else:
    _Interceptor, _Context = grpc.aio.ServerInterceptor, grpc.aio.ServicerContext


class ServiceInterceptor(_Interceptor):
    """One per server. `max_calls` counts RPCs in flight over all methods."""

    def __init__(self, metrics: RpcMetrics, *, max_calls: int, default_deadline_s: float) -> None:
        self._metrics = metrics
        self._max_calls = max_calls
        self._default_deadline_s = default_deadline_s
        self._in_flight = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        metadata = handler_call_details.invocation_metadata
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:
            stream = self._stream(handler.unary_stream, method, metadata)
            return grpc.unary_stream_rpc_method_handler(stream, *codecs)
        unary = self._unary(handler.unary_unary, method, metadata)
        return grpc.unary_unary_rpc_method_handler(unary, *codecs)

    def _unary(self, behaviour: Any, method: str, metadata: Any) -> Any:
        async def wrapped(request: Any, context: _Context) -> Any:
            async with self._observed(method, metadata, context):
                return await behaviour(request, context)

        return wrapped

    def _stream(self, behaviour: Any, method: str, metadata: Any) -> Any:
        # It writes instead of yielding: a cancelled call then unwinds through here, and the behaviour's own clean-up
        # runs now, not when the garbage collector finds a generator without a consumer.
        async def wrapped(request: Any, context: _Context) -> None:
            async with self._observed(method, metadata, context), aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

        return wrapped

    @asynccontextmanager
    async def _observed(self, method: str, metadata: Any, context: _Context) -> AsyncIterator[None]:
        tracing.begin(metadata)
        started = time.monotonic()
        code = grpc.StatusCode.OK
        self._in_flight += 1
        self._metrics.in_flight.labels(method).inc()
        left = context.time_remaining()
        try:
            if self._in_flight > self._max_calls:
                raise ResourceExhausted(f"more than {self._max_calls} calls in flight")
            with deadline_in(self._default_deadline_s if left is None else left):
                yield
        except (asyncio.CancelledError, GeneratorExit):
            # gRPC cancels a call whose deadline has passed; the metrics must distinguish the two.
            late = left is not None and time.monotonic() - started >= left
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except ServiceError as error:
            code = error.code
            await _abort(context, error)
        except grpc.aio.AbortError:
            code = context.code() or grpc.StatusCode.UNKNOWN
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            _log.exception("%s failed", method)
            await context.abort(code, INTERNAL_MESSAGE)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.labels(method).dec()
            self._record(method, code, time.monotonic() - started)

    def _record(self, method: str, code: grpc.StatusCode, latency_s: float) -> None:
        self._metrics.handled.labels(method, code.name).inc()
        self._metrics.latency_s.labels(method).observe(latency_s)
        _log.info("%s %s", method, code.name, extra={"code": code.name, "latency_s": round(latency_s, 4)})


async def _abort(context: _Context, error: ServiceError) -> None:
    if error.__cause__ is not None:
        _log.warning("%s: %s (%r)", error.code.name, error.message, error.__cause__)
    details = ((DETAILS_KEY, to_status(error).SerializeToString()),)
    await context.abort(error.code, error.message, trailing_metadata=details)
