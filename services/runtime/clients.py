"""Calls another service: channel options, deadline and trace, and the translation of its errors.

It knows gRPC's client side; not which services there are.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import Span, SpanKind

from contract import tracing
from services.runtime.certificates import Certificates
from services.runtime.deadlines import remaining_s
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.runtime.statuses import violations_of

REACHING = (  # options of a channel to a part that has replicas, and whose replicas come and go
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses of a name; the default stays with the first
    # A replica that is new, or that took another's place, is looked up at once; the default is after half a minute.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # The default back-off grows to two minutes; what was restarted must be picked up at once.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
RENEW_S = 2.0  # how long a channel may fail before it is opened anew
LOOK_S = 1.0  # between two looks whether its certificate is another one
LAST_CALLS_S = 600.0  # calls of the channel before, whose server is about to end
Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class UnaryMethod(Protocol[Request, Response]):
    """A unary method of an asynchronous stub."""

    def __call__(
        self, request: Request, *, timeout: float | None = None, metadata: tuple[tuple[str, str], ...] | None = None
    ) -> Awaitable[Response]: ...


def open_channel(
    address: str, *others: tuple[str, int], max_message_bytes: int, certificates: Certificates | None
) -> grpc.aio.Channel:
    """A channel to all replicas of a part, which finds a restarted one again within some seconds.

    Args:
        others: more of gRPC's options.
        certificates: this process's, by which the other end knows it; None is clear text.
    """
    options = [
        *others,
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        *REACHING,
    ]
    if certificates is None:
        return RenewedChannel(lambda: grpc.aio.insecure_channel(address, options=options))
    return RenewedChannel(
        lambda: grpc.aio.secure_channel(address, certificates.for_channel(), options=options), certificates.current
    )


class RenewedChannel(grpc.aio.Channel):
    """A channel that is opened anew, by a call, when it has failed for a while, or its certificate is another one.

    In Kubernetes a name has no address while no pod of a part is ready. gRPC asks a name server that answered so again
    after a pause, which grows to two minutes, and no option bounds it. A new channel asks at once.

    Args:
        certificate: what the channel is opened with now; the same object while it has not changed.
    """

    def __init__(
        self, open_one: Callable[[], grpc.aio.Channel], certificate: Callable[[], object] = lambda: None
    ) -> None:
        self._open = open_one
        self._certificate = certificate
        self._opened_with = certificate()
        self._looked = time.monotonic()
        self._channel = open_one()
        self._failing_since: float | None = None
        self._former: dict[asyncio.Task[None], grpc.aio.Channel] = {}  # whose last calls are waited for

    def _current(self) -> grpc.aio.Channel:
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            if self._certificate() is not self._opened_with:
                self._renew()
        if self._channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > RENEW_S:
            self._renew()
        return self._channel

    def _renew(self) -> None:
        ending = asyncio.create_task(self._channel.close(LAST_CALLS_S))
        self._former[ending] = self._channel
        ending.add_done_callback(self._former.pop)
        self._opened_with = self._certificate()
        self._channel, self._failing_since = self._open(), None

    def _method(self, kind: str, *arguments: Any, **named: Any) -> Callable[..., Any]:
        def called(*request: Any, **options: Any) -> Any:
            return getattr(self._current(), kind)(*arguments, **named)(*request, **options)

        return called

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_unary", *arguments, **named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_stream", *arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_unary", *arguments, **named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_stream", *arguments, **named)

    async def close(self, grace: float | None = None) -> None:
        """Ends calls in flight, after `grace` seconds, those of the channels before at once."""
        former = dict(self._former)  # which loses what has ended
        for ending, channel in former.items():
            ending.cancel()
            await channel.close(None)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> "RenewedChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def call(method: "UnaryMethod[Request, Response]", request: Request, *, name: str, timeout_s: float) -> Response:
    """Calls a method of the dependency `name`; every status but OK becomes one of our errors.

    INVALID_ARGUMENT, NOT_FOUND and FAILED_PRECONDITION pass through, with the field names that the callee gave, for
    callers that forward fields of their own request; a caller must convert errors about values of its own choice.
    """
    limit_s = remaining_s(timeout_s)
    with calling(name, request):
        try:
            return await method(request, timeout=limit_s, metadata=tracing.metadata())
        except grpc.aio.AioRpcError as error:
            raise _translated(error, name, out_of_time=limit_s < timeout_s) from error


def calling(name: str, request: object) -> AbstractContextManager[Span]:
    """The span of a call of the dependency `name`."""
    method = type(request).__name__.removesuffix("Request")
    return tracing.span(
        f"{name}: {method}", {"rpc.system.name": "grpc", "service.peer.name": name}, kind=SpanKind.CLIENT
    )


async def check_serving(channel: grpc.aio.Channel, method: str, *, name: str, timeout_s: float) -> None:
    """Returns if the dependency `name` reports SERVING for a method, e.g. "perfusion.v1.RankingService/Rank".

    Unavailable if it does not. For health checks.
    """
    check = health_pb2_grpc.HealthStub(channel).Check
    answer = await call(check, health_pb2.HealthCheckRequest(service=method), name=name, timeout_s=timeout_s)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unavailable(name, f"cannot serve {method.rpartition('/')[2]}")


def _translated(error: grpc.aio.AioRpcError, name: str, *, out_of_time: bool) -> Exception:
    code, details = error.code(), error.details() or ""
    retryable = (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    )
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded() if out_of_time else Unavailable(name, "took too long")
    if code in retryable:
        return Unavailable(name)  # the details name addresses, which are not the caller's business; the log has them
    if code == grpc.StatusCode.INVALID_ARGUMENT and (violations := violations_of(error.trailing_metadata())):
        return InvalidArgument(*violations)
    if code == grpc.StatusCode.NOT_FOUND:
        return NotFound(details)
    if code == grpc.StatusCode.FAILED_PRECONDITION:
        return FailedPrecondition(details)
    return error
