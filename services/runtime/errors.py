"""The errors that services raise on purpose. Each class carries its gRPC status; an interceptor does the rest.

    ServiceError
    ├── PermanentError            trying the same again gives the same
    │   ├── InvalidArgument       INVALID_ARGUMENT     the caller's field is wrong (google.rpc.BadRequest)
    │   ├── NotFound              NOT_FOUND            what the caller names does not exist
    │   ├── AlreadyExists         ALREADY_EXISTS       a request_id used before with another payload
    │   ├── Unauthenticated       UNAUTHENTICATED      nothing believable says who calls
    │   ├── PermissionDenied      PERMISSION_DENIED    it belongs to another user, or the caller may not do it
    │   ├── FailedPrecondition    FAILED_PRECONDITION  the state of the system does not allow it
    │   └── MessageTooLarge       RESOURCE_EXHAUSTED   the answer is larger than a message may be
    └── RetryableError            trying again later may succeed (google.rpc.RetryInfo)
        ├── Unavailable           UNAVAILABLE          a dependency does not answer
        ├── ResourceExhausted     RESOURCE_EXHAUSTED   too many calls in flight
        └── DeadlineExceeded      DEADLINE_EXCEEDED    the caller's time ran out

Any other exception is a fault of ours: INTERNAL with a fixed message, its details in the log. Each class also carries
its reason, for programs (error_reason.proto). It knows nothing of transport beyond the status codes' names.
"""

from collections.abc import Mapping

import grpc
from perfusion.v1 import error_reason_pb2 as reasons


class ServiceError(Exception):
    """Base of all errors that reach the caller as they are. `message` must hold nothing secret."""

    code: grpc.StatusCode
    reason: reasons.ErrorReason.ValueType
    retry_after_s: float | None = None

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations: tuple[tuple[str, str], ...] = ()


class PermanentError(ServiceError):
    """Trying the same again gives the same."""


class RetryableError(ServiceError):
    """Trying again after `retry_after_s` may succeed."""

    retry_after_s: float | None = 1.0


class InvalidArgument(PermanentError):
    """One or more request fields are wrong; each is (field path, what is wrong with it)."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = reasons.ERROR_REASON_INVALID_ARGUMENT

    def __init__(self, *violations: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in violations))
        self.violations = violations


class NotFound(PermanentError):
    """What the caller names, in `field` of the request, does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    reason = reasons.ERROR_REASON_NOT_FOUND

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, metadata={"field": field} if field else None)


class AlreadyExists(PermanentError):
    """`request_id` was used before with a different payload."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = reasons.ERROR_REASON_REQUEST_ID_REUSED


class Unauthenticated(PermanentError):
    """The caller's certificate or token does not say who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = reasons.ERROR_REASON_UNAUTHENTICATED


class PermissionDenied(PermanentError):
    """What the caller names, in `field` of the request, belongs to another user; or the caller may not do it at all."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = reasons.ERROR_REASON_PERMISSION_DENIED

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, metadata={"field": field} if field else None)


class FailedPrecondition(PermanentError):
    """The state of the system does not allow what `field` of the request names, such as a release that is not there."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = reasons.ERROR_REASON_FAILED_PRECONDITION

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, metadata={"field": field} if field else None)


class MessageTooLarge(PermanentError):
    """The answer is larger than a message may be."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = reasons.ERROR_REASON_MESSAGE_TOO_LARGE


class Unavailable(RetryableError):
    """A dependency does not answer; `dependency` is its short name."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = reasons.ERROR_REASON_DEPENDENCY_UNAVAILABLE

    def __init__(self, dependency: str, problem: str = "does not answer") -> None:
        super().__init__(f"{dependency} {problem}", metadata={"dependency": dependency})


class ResourceExhausted(RetryableError):
    """The service is full."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = reasons.ERROR_REASON_TOO_MANY_CALLS


class DeadlineExceeded(RetryableError):
    """The caller's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = reasons.ERROR_REASON_DEADLINE_EXCEEDED
    retry_after_s = None

    def __init__(self, message: str = "the call's deadline has passed") -> None:
        super().__init__(message)
