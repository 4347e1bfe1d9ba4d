"""Errors to google.rpc.Status and back: the only place that knows the rich error details' layout."""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from perfusion.v1.error_reason_pb2 import ErrorReason

from services.runtime.errors import ServiceError

DOMAIN = "perfusion.v1"
DETAILS_KEY = "grpc-status-details-bin"


def to_status(error: ServiceError) -> status_pb2.Status:
    """The rich status that tells a caller what went wrong, where, and when to try again."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN, metadata=error.metadata),
    ]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
            for field, problem in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    code: int = error.code.value[0]
    return status_pb2.Status(code=code, message=error.message, details=[_packed(detail) for detail in details])


def reason_of(error: ServiceError) -> str:
    """The reason's name as error_reason.proto says it, such as "NOT_FOUND"."""
    return ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def details_of(trailing_metadata: object) -> list[Message]:
    """The ErrorInfo, BadRequest and RetryInfo messages in a failed call's trailing metadata; others are skipped."""
    known = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    found: list[Message] = []
    for key, value in trailing_metadata or ():  # type: ignore[attr-defined]
        if key != DETAILS_KEY:
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        for detail in status.details:
            found += [detail_of(detail, kind) for kind in known if detail.Is(kind.DESCRIPTOR)]
    return found


def detail_of(packed: Any, kind: type[Message]) -> Message:
    """Unpacks one detail."""
    message = kind()
    packed.Unpack(message)
    return message


def violations_of(trailing_metadata: object) -> list[tuple[str, str]]:
    """The (field, problem) pairs of a failed call."""
    return [
        (violation.field, violation.description)
        for detail in details_of(trailing_metadata)
        if isinstance(detail, error_details_pb2.BadRequest)
        for violation in detail.field_violations
    ]
