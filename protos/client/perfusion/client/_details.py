"""What a failed call says beyond its code: the google.rpc messages in its trailing metadata, decoded.

It builds the four messages it needs in a descriptor pool of its own and under names of its own. So the client needs no
googleapis-common-protos, and does not collide with it where it is installed. Only numbers and types of fields matter on
the wire. It does not know which error a reason means, nor what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

DOMAIN = "perfusion.v1"  # of every ErrorInfo that a service sends
DETAILS_KEY = "grpc-status-details-bin"
TRACE_KEY = "trace-id"
_PACKAGE = "perfusion.client.details"
_SCALARS = {
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
# Message → its fields, in the order of their numbers from 1: (name, type, repeated).
_MESSAGES = {
    "Any": (("type_url", "string", False), ("value", "bytes", False)),
    "Status": (("code", "int32", False), ("message", "string", False), ("details", "Any", True)),
    "Entry": (("key", "string", False), ("value", "string", False)),  # a map is a repeated entry on the wire
    "ErrorInfo": (("reason", "string", False), ("domain", "string", False), ("metadata", "Entry", True)),
    "FieldViolation": (("field", "string", False), ("description", "string", False)),
    "BadRequest": (("field_violations", "FieldViolation", True),),
    "Duration": (("seconds", "int64", False), ("nanos", "int32", False)),
    "RetryInfo": (("retry_delay", "Duration", False),),
}


@dataclass
class Details:
    """What was found; everything has a value where nothing was."""

    reason: str = ""  # an ErrorReason without its prefix
    metadata: dict[str, str] = field(default_factory=dict)  # ErrorInfo's, such as {"dependency": "kafka"}
    fields: list[tuple[str, str]] = field(default_factory=list)  # (path of the field, what is wrong with it)
    retry_after_s: float | None = None
    trace_id: str = ""


def details_of(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> Details:
    """Reads a failed call's trailing metadata. What it does not know or cannot read is skipped."""
    found = Details()
    for key, value in trailing_metadata or ():
        if key == TRACE_KEY:
            found.trace_id = value if isinstance(value, str) else value.decode("ascii", "replace")
        elif key == DETAILS_KEY and isinstance(value, bytes):
            try:
                _read_status(value, found)
            except DecodeError:
                continue
    return found


def status_of(raw: bytes) -> tuple[int, str, Details]:
    """Code, message and details of a serialized google.rpc.Status."""
    status, found = _parsed("Status", raw), Details()
    _read_status(raw, found)
    return status.code, status.message, found


def _read_status(raw: bytes, found: Details) -> None:
    for packed in _parsed("Status", raw).details:
        kind = packed.type_url.rpartition("/")[2]
        if kind == "google.rpc.ErrorInfo":
            info = _parsed("ErrorInfo", packed.value)
            if info.domain == DOMAIN:
                found.reason = info.reason
                found.metadata = {entry.key: entry.value for entry in info.metadata}
        elif kind == "google.rpc.BadRequest":
            violations = _parsed("BadRequest", packed.value).field_violations
            found.fields += [(violation.field, violation.description) for violation in violations]
        elif kind == "google.rpc.RetryInfo":
            delay = _parsed("RetryInfo", packed.value).retry_delay
            found.retry_after_s = max(0.0, delay.seconds + delay.nanos / 1e9)


def _parsed(name: str, raw: bytes) -> Any:
    message = _classes()[name]()
    message.ParseFromString(raw)
    return message


@cache
def _classes() -> dict[str, type[Any]]:
    """The message classes by name."""
    file = FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind, repeated) in enumerate(fields, start=1):
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            added = message.field.add(name=field_name, number=number, label=label)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }
