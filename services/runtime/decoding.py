"""From the bytes of a request to its message, or to InvalidArgument that says what is malformed.

It knows protobuf's wire format as far as a message's outermost fields. What a field means, and whether its value is
allowed, the services' requests.py know.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.runtime.errors import InvalidArgument

# Entries of repeated fields and maps count one by one. An empty entry is two bytes on the wire and a hundred in memory.
MAX_FIELDS = 4096


def decoded(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    """The message; `deserialize` is its class's FromString."""
    kind: type[Message] = deserialize.__self__  # type: ignore[attr-defined]
    descriptor = kind.DESCRIPTOR
    try:
        for count, (number, value) in enumerate(_fields(data)):
            if count == MAX_FIELDS:
                raise InvalidArgument((descriptor.name, f"has more than {MAX_FIELDS} fields and entries"))
            _check_text(descriptor.fields_by_number.get(number), value)
        return deserialize(data)
    except (_Malformed, DecodeError):
        raise InvalidArgument((descriptor.name, "the bytes sent are no such message")) from None


def decoded_by_entries(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    """As `decoded`, for messages of a stream: of its entries those that are malformed by themselves become empty ones.

    So one entry that a caller spoiled is refused for what it lacks, and the others are read.
    """
    try:
        return decoded(data, deserialize)
    except InvalidArgument:
        kind: type[Message] = deserialize.__self__  # type: ignore[attr-defined]
        message, spoiled = kind(), 0
        try:
            entries = list(islice(_fields(data), MAX_FIELDS + 1))
        except _Malformed:
            raise InvalidArgument((kind.DESCRIPTOR.name, "the bytes sent are no such message")) from None
        for number, value in entries:
            field = kind.DESCRIPTOR.fields_by_number.get(number)
            if field is None or value is None or field.message_type is None or not field.is_repeated:
                continue
            entry = getattr(message, field.name).add()
            try:
                entry.ParseFromString(bytes(value))
            except DecodeError:
                entry.Clear()
                spoiled += 1
        if not spoiled or len(entries) > MAX_FIELDS:
            raise
        return message


class _Malformed(Exception):
    """Not protobuf's wire format."""


def _check_text(field: Any, value: memoryview | None) -> None:
    if field is None or value is None or field.type != FieldDescriptor.TYPE_STRING:
        return
    try:
        str(value, "utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument((field.name, "must be text in UTF-8")) from None


def _fields(data: bytes) -> Iterator[tuple[int, memoryview | None]]:
    """Each outermost field's number, with its bytes where it has a length."""
    view, at = memoryview(data), 0
    while at < len(data):
        tag, at = _varint(data, at)
        value = None
        match tag & 7:
            case 0:  # varint
                _, at = _varint(data, at)
            case 1:  # 64 bits
                at += 8
            case 5:  # 32 bits
                at += 4
            case 2:  # a length, and as many bytes
                length, at = _varint(data, at)
                value, at = view[at : at + length], at + length
            case _:  # groups, which this API does not have
                raise _Malformed
        if at > len(data):
            raise _Malformed
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Malformed
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise _Malformed
