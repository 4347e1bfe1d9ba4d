"""Wraps every RPC: trace, caller, deadline, limits, decoding, metrics, one log line, and errors to statuses.

It knows nothing of what an RPC does. Health checks are neither counted nor logged, so that a full server stays healthy;
streams of health and reflection have a number of their own.

A method is served as a stream of bytes, which looks the same on the wire: so the wrapper itself reads the request and
writes each answer, and a caller who sends or reads slowly is as bounded in time as the work between.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.trace import Span, StatusCode

from contract import tracing
from services.runtime import access, callers
from services.runtime.callers import CLIENT, Callers
from services.runtime.calls import Calls, Shares, detached
from services.runtime.deadlines import deadline_in, is_over
from services.runtime.decoding import decoded, decoded_by_entries
from services.runtime.errors import InvalidArgument, ServiceError
from services.runtime.metrics import RpcMetrics
from services.runtime.statuses import INTERNAL_MESSAGE, message_of, reason_of, trailers_of
from services.runtime.writing import Writer

TRACE_KEY = "trace-id"
UNKNOWN_METHOD = "unknown"  # the metrics' label: a caller must not choose labels
IDS = ("request_id", "user_id", "group_id")  # fields of requests by which people look for a call in the log
TRACED_IDS = ("request_id", "group_id")  # of them in spans, which say nothing of persons
TRACED_CHARACTERS = 64  # of an id
FAULTS = (  # statuses that no caller is to blame for, as OpenTelemetry's conventions have it
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
)
LOGGED_FIELDS = 10  # wrong fields named in a log line
EMPTY_WAIT_S = 0.1  # between the end of a call's messages and its cancellation, if gRPC is to cancel it
STATUS_WAIT_S = 1.0  # for a status behind an answer that nobody reads

_log = logging.getLogger(__name__)

# The stubs make these generic in request and response; the classes themselves are not.
if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
    _Context = grpc.aio.ServicerContext[Any, Any]
else:
    _Interceptor, _Context = grpc.aio.ServerInterceptor, grpc.aio.ServicerContext
Serve = Callable[[Any, _Context], Awaitable[Any]]


@dataclass(frozen=True)
class Limits:
    """What callers may take."""

    max_calls: int  # in flight over all methods
    max_client_calls: int  # of them, of one client
    max_clients_calls: int  # of all clients: the rest is for the platform's own parts
    max_watches: int  # streams of health and reflection
    max_answer_bytes: int
    default_deadline_s: float  # of a call whose caller gave none
    max_deadline_s: float  # of any call
    write_timeout_s: float  # for the caller to read one message of an answer


@dataclass
class _Served:
    """One call, as the metrics and the log tell of it."""

    method: str
    context: _Context
    code: grpc.StatusCode = grpc.StatusCode.OK
    begun: bool = False  # whether an answer was begun
    said: dict[str, Any] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack)  # what it gives back at its end


class ServiceInterceptor(_Interceptor):
    """One per server; `on_unavailable` hears of each method that was, as "perfusion.v1.RankingService/Rank"."""

    def __init__(
        self, metrics: RpcMetrics, limits: Limits, known: Callers, on_unavailable: Callable[[str], None]
    ) -> None:
        self._metrics = metrics
        self._callers = known
        self._limits = limits
        self._on_unavailable = on_unavailable
        self._writer = Writer(
            timeout_s=limits.write_timeout_s, most_bytes=limits.max_answer_bytes, most_unread=limits.max_calls
        )
        self._calls = Calls(limits.max_calls)
        self._clients = Shares(limits.max_client_calls, limits.max_clients_calls)
        self._watches = Calls(limits.max_watches, "health and reflection streams")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._refusing(method))
        if method.startswith("/grpc."):
            return self._auxiliary(handler, method)
        return grpc.stream_stream_rpc_method_handler(self._serving(handler, method))

    async def finish(self, drain_s: float, clean_up_s: float) -> None:
        """Waits until the calls in flight have ended; those that have not after `drain_s` are cut off.

        A call that is cut off still cleans up and answers, for `clean_up_s` at most. No new calls may come.
        """
        if not await self._calls.ended(drain_s):
            _log.info("cutting off the calls that are still in flight")
        self._calls.cut()
        self._watches.cut()
        for calls in (self._calls, self._watches):
            if not await calls.ended(clean_up_s):
                _log.warning("some calls have not ended in %s s after they were cut off", clean_up_s)

    def _serving(self, handler: Any, method: str) -> Serve:
        name = method.removeprefix("/")

        async def serve(_requests: object, context: _Context) -> None:
            async with self._observed(method, context) as call:
                call.said = {"caller": self._callers.name(context)}
                caller = self._callers.of(call.said["caller"], context)
                access.check_caller(name, caller)
                callers.begin(caller)
                if caller.name.startswith(CLIENT):
                    call.held.enter_context(self._clients.one(caller.name))
                if handler.request_streaming:
                    request = _messages(context, handler.request_deserializer)
                else:
                    request = decoded(await _read(context), handler.request_deserializer)
                    call.said |= {field: value for field in IDS if (value := getattr(request, field, ""))}
                    access.check_request(name, caller, request)
                async with aclosing(_answers(handler, request, context)) as answers:
                    async for answer in answers:
                        written = handler.response_serializer(answer)
                        await self._writer.write(context, written, is_first=not call.begun)
                        call.begun = True

        return serve

    def _refusing(self, method: str) -> Serve:
        async def refuse(_requests: object, context: _Context) -> None:
            async with self._observed(UNKNOWN_METHOD, context) as call:
                call.said = {"asked_for": method}
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service has no such method")

        return refuse

    def _auxiliary(self, handler: Any, method: str) -> Any:
        """Health and reflection, with their own handlers' ways of reading and writing."""
        codecs = (_or_error(handler.request_deserializer), handler.response_serializer)

        async def check(request: Any, context: _Context) -> Any:
            async with _answered(_Served(method, context)):
                return await handler.unary_unary(_valid(request), context)

        async def watch(request: Any, context: _Context) -> None:
            await write_all(context, None, lambda: handler.unary_stream(_valid(request), context))

        async def reflect(requests: Any, context: _Context) -> None:
            limit_s = self._limits.max_deadline_s
            await write_all(context, limit_s, lambda: handler.stream_stream(_all_valid(requests), context))

        async def write_all(
            context: _Context, limit_s: float | None, answers: Callable[[], AsyncGenerator[Any]]
        ) -> None:
            async with _answered(_Served(method, context)), self._watches.one(limit_s), aclosing(answers()) as stream:
                async for answer in stream:
                    await context.write(answer)

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(reflect, *codecs)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(watch, *codecs)
        return grpc.unary_unary_rpc_method_handler(check, *codecs)

    @asynccontextmanager
    async def _observed(self, method: str, context: _Context) -> AsyncIterator[_Served]:
        name = method.removeprefix("/")
        told = {"rpc.system.name": "grpc", "rpc.method": name}
        with tracing.entry(name, [tracing.of(context.invocation_metadata())], attributes=told) as span:
            context.set_trailing_metadata(((TRACE_KEY, tracing.trace_id()),))
            async with self._counted(method, context, span) as call:
                yield call

    @asynccontextmanager
    async def _counted(self, method: str, context: _Context, span: Span) -> AsyncIterator[_Served]:
        started, call, left_s = time.monotonic(), _Served(method, context), context.time_remaining()
        limit_s = min(self._limits.default_deadline_s if left_s is None else left_s, self._limits.max_deadline_s)
        self._metrics.in_flight.labels(method).inc()
        try:
            with call.held, deadline_in(limit_s):
                try:
                    async with _answered(call), self._calls.one(limit_s):
                        yield call
                except asyncio.CancelledError:
                    if call.code == grpc.StatusCode.OK:  # gRPC cancels a call whose deadline has passed, too
                        call.code = grpc.StatusCode.DEADLINE_EXCEEDED if is_over() else grpc.StatusCode.CANCELLED
                    raise
        finally:
            self._metrics.in_flight.labels(method).dec()
            _conclude(span, call)
            self._record(call, time.monotonic() - started)

    def _record(self, call: _Served, latency_s: float) -> None:
        code = call.code.name
        if call.code == grpc.StatusCode.UNAVAILABLE:
            self._on_unavailable(call.method.removeprefix("/"))
        self._metrics.handled.labels(call.method, code).inc()
        self._metrics.latency_s.labels(call.method, code).observe(latency_s, tracing.exemplar())
        _log.info("%s %s", call.method, code, extra={"code": code, "latency_s": round(latency_s, 4), **call.said})


def _conclude(span: Span, call: _Served) -> None:
    """How the call ended, and whose it was."""
    if not span.is_recording():
        return
    span.set_attribute("rpc.response.status_code", call.code.name)
    for name in TRACED_IDS:
        if name in call.said:
            span.set_attribute(f"perfusion.{name}", str(call.said[name])[:TRACED_CHARACTERS])
    if call.code in FAULTS:
        span.set_attribute("error.type", call.code.name)
        span.set_status(StatusCode.ERROR)


async def _answers(handler: Any, request: Any, context: _Context) -> AsyncGenerator[Any]:
    """What the servicer's method answers, one message or several."""
    if not handler.response_streaming:
        yield await handler.unary_unary(request, context)
        return
    method = handler.stream_stream if handler.request_streaming else handler.unary_stream
    async with aclosing(method(request, context)) as answers:
        async for answer in answers:
            yield answer


async def _read(context: _Context) -> bytes:
    """The request's bytes."""
    data: Any = await context.read()
    if data is grpc.aio.EOF:  # type: ignore[attr-defined]
        await asyncio.sleep(EMPTY_WAIT_S)  # so ends, too, what the caller cancelled and what is too large for gRPC
        raise InvalidArgument(("request", "the call has no message"))
    return bytes(data)


async def _messages(context: _Context, deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    """The caller's messages, each read from the connection when it is asked for: what is not asked for stays there."""
    while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        yield decoded_by_entries(bytes(data), deserialize)


@asynccontextmanager
async def _answered(call: _Served) -> AsyncIterator[None]:
    """Turns an error into the call's status."""
    try:
        yield
    except ServiceError as error:
        call.code = error.code
        fields = [name for name, _ in error.violations[:LOGGED_FIELDS]]
        call.said |= {"reason": reason_of(error), "problem": message_of(error), "fields": fields, **error.metadata}
        if error.__cause__ is not None:
            call.said["cause"] = repr(error.__cause__)
        await _abort(call, message_of(error), trailers_of(error))
    except grpc.aio.AbortError:
        call.code = call.context.code() or grpc.StatusCode.UNKNOWN
        raise
    except grpc.aio.InternalError as error:  # of a write or read: the connection is gone
        raise asyncio.CancelledError from error
    except Exception:
        call.code = grpc.StatusCode.INTERNAL
        _log.exception("%s failed", call.method, extra=call.said)
        await _abort(call, INTERNAL_MESSAGE, ())


async def _abort(call: _Served, message: str, trailers: tuple[tuple[str, str | bytes], ...]) -> None:
    """Ends the call with its code; always raises, as gRPC wants it."""
    context = call.context
    trailers = (*(context.trailing_metadata() or ()), *trailers)
    ending = detached(context.abort(call.code, message, trailing_metadata=trailers))
    if (await asyncio.wait({ending}, timeout=STATUS_WAIT_S))[0] and isinstance(ending.exception(), grpc.aio.AbortError):
        await ending
    raise asyncio.CancelledError  # the status waits behind an answer that nobody reads, or the caller has gone


def _or_error(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC calls it where nothing catches: so it returns its error."""

    def decode(data: bytes) -> Any:
        try:
            return decoded(data, deserialize)
        except InvalidArgument as error:
            return error

    return decode


def _valid(request: Any) -> Any:
    if isinstance(request, InvalidArgument):
        raise request
    return request


async def _all_valid(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _valid(request)
