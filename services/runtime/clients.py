"""Calls another service: channel options, deadline and trace, and the translation of its errors.

It knows gRPC's client side; not which services there are.
"""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.deadlines import remaining_s
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.runtime.statuses import violations_of
from services.runtime.tracing import traceparent

REACHING = (  # options of a channel to a part that has replicas, and whose replicas come and go
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses of a name; the default stays with the first
    # A replica that is new, or that took another's place, is looked up at once; the default is after half a minute.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # The default back-off grows to two minutes; what was restarted must be picked up at once.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class UnaryMethod(Protocol[Request, Response]):
    """A unary method of an asynchronous stub."""

    def __call__(
        self, request: Request, *, timeout: float | None = None, metadata: tuple[tuple[str, str], ...] | None = None
    ) -> Awaitable[Response]: ...


def open_channel(address: str, *, max_message_bytes: int) -> grpc.aio.Channel:
    """A channel to all replicas of a service, which finds a restarted one again within a second or so."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            *REACHING,
        ],
    )


async def call(method: "UnaryMethod[Request, Response]", request: Request, *, name: str, timeout_s: float) -> Response:
    """Calls a method of the dependency `name`; every status but OK becomes one of our errors.

    INVALID_ARGUMENT, NOT_FOUND and FAILED_PRECONDITION pass through, with the field names that the callee gave, for
    callers that forward fields of their own request; a caller must convert errors about values of its own choice.
    """
    limit_s = remaining_s(timeout_s)
    trace = traceparent()
    try:
        return await method(request, timeout=limit_s, metadata=(("traceparent", trace),) if trace else None)
    except grpc.aio.AioRpcError as error:
        raise _translated(error, name, out_of_time=limit_s < timeout_s) from error


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
