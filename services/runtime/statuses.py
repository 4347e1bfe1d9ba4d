"""Errors to google.rpc.Status and back: the only place that knows the rich error details' layout."""

from collections.abc import Sequence

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from perfusion.v1.error_reason_pb2 import ErrorReason

from services.runtime.errors import ServiceError

DOMAIN = "perfusion.v1"
DETAILS_KEY = "grpc-status-details-bin"
INTERNAL_MESSAGE = "internal error; the service's log has the details under this call's trace id"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # RetryInfo for gRPC's own retries, which read no details

# Clients take 8 KiB of trailers in all, every byte of the message that is not ASCII counting three times.
MESSAGE_BYTES = 1024
FIELD_BYTES = 128
PROBLEM_BYTES = 512
VIOLATIONS_BYTES = 2048


def trailers_of(error: ServiceError) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata that a failed call ends with."""
    details = ((DETAILS_KEY, to_status(error).SerializeToString()),)
    if error.retry_after_s is None:
        return details
    return (*details, (PUSHBACK_KEY, str(round(error.retry_after_s * 1000))))


def to_status(error: ServiceError) -> status_pb2.Status:
    """The rich status that tells a caller what went wrong, where, and when to try again; of a bounded size."""
    named = _named(error)
    metadata = {key: cut(value, FIELD_BYTES) for key, value in error.metadata.items()}
    if left_out := len(error.violations) - len(named):
        metadata["fields_left_out"] = str(left_out)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN, metadata=metadata),
    ]
    if named:
        details.append(error_details_pb2.BadRequest(field_violations=named))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    code: int = error.code.value[0]
    return status_pb2.Status(code=code, message=message_of(error), details=[_packed(detail) for detail in details])


def status_of(error: Exception) -> status_pb2.Status:
    """`to_status` of any error, for one of many outcomes: a fault of ours shows nothing of itself."""
    if isinstance(error, ServiceError):
        return to_status(error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message=INTERNAL_MESSAGE)


def message_of(error: ServiceError) -> str:
    """The error's message as its caller gets it: of a bounded size."""
    if not error.violations:
        return cut(error.message, MESSAGE_BYTES)
    named = _named(error)
    message = cut("; ".join(f"{each.field}: {each.description}" for each in named), MESSAGE_BYTES)
    left_out = len(error.violations) - len(named)
    return message + (f"; and {left_out} more fields are wrong" if left_out else "")


def _named(error: ServiceError) -> "Sequence[error_details_pb2.BadRequest.FieldViolation]":
    """The violations that there is room for, the first ones."""
    named, room = [], VIOLATIONS_BYTES
    for field, problem in error.violations:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=cut(field, FIELD_BYTES), description=cut(problem, PROBLEM_BYTES)
        )
        room -= violation.ByteSize()
        if room < 0:
            break
        named.append(violation)
    return named


def cut(text: str, most: int) -> str:
    """The text, or its beginning and "…", so that it takes at most so many bytes in gRPC's percent encoding."""
    room = most - 9  # "…" takes nine
    for i, character in enumerate(text[: most + 1]):
        room -= 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode("utf-8", "replace"))
        if room < 0:
            return text[:i] + "…"
    return text


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
