"""The errors that a call raises, by whose turn it is. They mirror ErrorReason of the API.

    PerFusionError
    ├── CallerError                the same call fails again
    │   ├── InvalidArgument        INVALID_ARGUMENT     fields of the request are wrong; `fields` names each
    │   ├── NotFound               NOT_FOUND            what the request names does not exist
    │   ├── RequestIdReused        ALREADY_EXISTS       request_id was used before with another payload
    │   ├── Unauthenticated        UNAUTHENTICATED      the certificate or token does not say who calls
    │   ├── PermissionDenied       PERMISSION_DENIED    the token does not name the merchant, or it is another's
    │   ├── FailedPrecondition     FAILED_PRECONDITION  the state of the system does not allow the call
    │   └── MessageTooLarge        RESOURCE_EXHAUSTED   the request or its answer is too large for one message
    ├── RetryableError             a later call may succeed; the client has tried until its time was used up
    │   ├── Unavailable            UNAVAILABLE          the service, or a part that it needs, does not answer
    │   └── TooManyCalls           RESOURCE_EXHAUSTED   too many calls or rounds are in flight
    ├── DeadlineExceeded           DEADLINE_EXCEEDED    the call's time ran out; try again with more
    └── ServiceFault               INTERNAL and others  a fault of the service; its log has the trace id

It knows codes, reasons and how a failed call carries them. It does not know which calls are tried again, nor when.
"""

from __future__ import annotations

from typing import ClassVar, cast

import grpc

from perfusion.client._details import Details, details_of, status_of


class PerFusionError(Exception):
    """Base of all errors that a call raises. `str(error)` is its message, with the trace id to ask about it."""

    for_reason: ClassVar[str] = ""  # the ErrorReason that the class stands for, without its prefix
    for_code: ClassVar[grpc.StatusCode | None] = None  # and the code, where a call gives no reason that is known

    def __init__(self, message: str, code: grpc.StatusCode, details: Details | None = None) -> None:
        details = details or Details()
        super().__init__(f"{message} (trace id {details.trace_id})" if details.trace_id else message)
        self.message = message
        self.code = code
        self.reason = details.reason  # as sent; empty when the error does not come from a service's own code
        self.fields = details.fields  # (path of the field, what is wrong with it)
        self.metadata = details.metadata  # such as {"field": "user_id"} or {"dependency": "kafka"}
        self.retry_after_s = details.retry_after_s  # None when the service does not say
        self.trace_id = details.trace_id  # by which the services' logs know the call; empty when none was sent


class CallerError(PerFusionError):
    """The same call fails again: correct it first."""


class InvalidArgument(CallerError):
    """Fields of the request are wrong."""

    for_reason, for_code = "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT


class NotFound(CallerError):
    """What the request names does not exist; `metadata["field"]` says which field names it."""

    for_reason, for_code = "NOT_FOUND", grpc.StatusCode.NOT_FOUND


class RequestIdReused(CallerError):
    """`request_id` was used before with a different payload."""

    for_reason, for_code = "REQUEST_ID_REUSED", grpc.StatusCode.ALREADY_EXISTS


class Unauthenticated(CallerError):
    """The client's certificate or token does not say who calls, or is not valid any more."""

    for_reason, for_code = "UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(CallerError):
    """What the request names belongs to another merchant, or to one that the token does not name."""

    for_reason, for_code = "PERMISSION_DENIED", grpc.StatusCode.PERMISSION_DENIED


class FailedPrecondition(CallerError):
    """The state of the system does not allow the call, such as a release that is not there."""

    for_reason, for_code = "FAILED_PRECONDITION", grpc.StatusCode.FAILED_PRECONDITION


class MessageTooLarge(CallerError):
    """A request or its answer is larger than a message may be; gRPC itself refuses a request, without a reason."""

    for_reason, for_code = "MESSAGE_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED


class RetryableError(PerFusionError):
    """A later call may succeed."""


class Unavailable(RetryableError):
    """The service does not answer, or a part that it needs: `metadata["dependency"]` names that one."""

    for_reason, for_code = "DEPENDENCY_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE


class TooManyCalls(RetryableError):
    """Too many calls or rounds are in flight."""

    for_reason = "TOO_MANY_CALLS"


class DeadlineExceeded(PerFusionError):
    """The call's time ran out."""

    for_reason, for_code = "DEADLINE_EXCEEDED", grpc.StatusCode.DEADLINE_EXCEEDED


class ServiceFault(PerFusionError):
    """A fault of the service, or of what lies between."""


_CLASSES: tuple[type[PerFusionError], ...] = (
    *CallerError.__subclasses__(),
    *RetryableError.__subclasses__(),
    DeadlineExceeded,
)
BY_REASON = {each.for_reason: each for each in _CLASSES if each.for_reason}
_BY_CODE = {each.for_code: each for each in _CLASSES if each.for_code}


def error_of(failure: grpc.RpcError) -> PerFusionError:
    """The typed error of a failed call."""
    call = cast(grpc.Call, failure)
    code: grpc.StatusCode = call.code()
    return _error(code, call.details() or code.name, details_of(call.trailing_metadata()))


def error_of_status(status: bytes) -> PerFusionError:
    """The typed error of a google.rpc.Status, as imports have it for each pick that failed."""
    number, message, details = status_of(status)
    code = next((each for each in grpc.StatusCode if each.value[0] == number), grpc.StatusCode.UNKNOWN)
    return _error(code, message or code.name, details)


def _error(code: grpc.StatusCode, message: str, details: Details) -> PerFusionError:
    kind = BY_REASON.get(details.reason) or _BY_CODE.get(code) or ServiceFault
    if kind is MessageTooLarge and details.retry_after_s is not None:
        kind = TooManyCalls  # gRPC's own refusals never ask for a later try
    return kind(message, code, details)
