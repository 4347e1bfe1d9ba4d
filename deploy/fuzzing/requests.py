"""Requests that are wrong in the ways that requests can be: made from a message's descriptor, and then, of every third
one, the bytes themselves. The same random numbers give the same requests. Knows protobuf; no service and no method."""

import math
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

DEPTH = 4  # of messages in messages
MOST = 40  # elements of a repeated field
FIELD_SHARE = 0.7  # of a message's fields that are set
BYTES_SHARE = 1 / 3  # of requests whose bytes are changed
LONG = 20_000
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")  # and what follows says how large it is
TEXTS = (
    "", " ", "\0", "a\0b", "dress", "dress,v-neck", "store-1", "../../etc/passwd", "file:///etc/passwd", "' OR 1=1 --",
    "%s%n{}", "\u202eevil", "e\u0301" * 50, "\ufeff", "\U0010ffff", "ﷺ" * 60, "\n{\"level\":\"error\"}", "x" * 128,
    "x" * 129, "," * 300, "(" * 300, "x" * LONG, "00000000-0000-0000-0000-000000000000", "-1", "NaN", "1e309",
)  # fmt: skip
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def request(descriptor: Descriptor, rng: random.Random) -> bytes:
    """One request's bytes; often no message of this type, and sometimes none at all."""
    encoded = message(descriptor, rng).SerializeToString()
    return damaged(encoded, rng) if rng.random() < BYTES_SHARE else encoded


def message(descriptor: Descriptor, rng: random.Random, depth: int = 0) -> Message:
    """A message whose fields hold what nobody should send, and now and then what somebody would."""
    made: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if rng.random() > FIELD_SHARE:
            continue
        if _is_map(field):
            _fill_map(getattr(made, field.name), field, rng, depth)
        elif field.is_repeated:
            many = getattr(made, field.name)
            for _ in range(rng.choice((0, 1, 2, 5, MOST))):
                if field.message_type is not None:
                    many.add().CopyFrom(_inner(field, rng, depth))
                else:
                    many.append(value(field, rng))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(_inner(field, rng, depth))
        else:
            setattr(made, field.name, value(field, rng))
    return made  # type: ignore[no-any-return]


def _inner(field: FieldDescriptor, rng: random.Random, depth: int) -> Message:
    assert field.message_type is not None
    return message(field.message_type, rng, depth + 1) if depth < DEPTH else GetMessageClass(field.message_type)()


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _fill_map(into: Any, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    assert field.message_type is not None
    key, of = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    for _ in range(rng.choice((0, 1, 3, MOST))):
        if of.message_type is not None:
            into[value(key, rng)].CopyFrom(_inner(of, rng, depth))
        else:
            into[value(key, rng)] = value(of, rng)


def value(field: FieldDescriptor, rng: random.Random) -> Any:
    """Of a field that is no message."""
    kind = field.cpp_type
    if kind in _INTEGERS:
        least, most = _INTEGERS[kind]
        return min(most, max(least, rng.choice((0, 1, 2, 4, 5, -1, 100, least, most, rng.randint(least, most)))))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return rng.choice((*field.enum_type.values_by_number, 99, -1, 2**31 - 1))
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        number = rng.choice(NUMBERS)
        return number if kind == FieldDescriptor.CPPTYPE_DOUBLE or abs(number) < 1e38 else math.inf
    if field.type == FieldDescriptor.TYPE_BYTES:
        size = b"".join(rng.choice((1, 256, 2**20, 2**31 - 1)).to_bytes(4, "big") for _ in range(2))
        return rng.choice((b"", b"\0", rng.randbytes(64), PNG + size + b"\x08\x02\0\0\0", rng.randbytes(LONG)))
    return rng.choice((*TEXTS, str(UUID(int=rng.getrandbits(128), version=4))))


def damaged(encoded: bytes, rng: random.Random) -> bytes:
    """The bytes, cut, changed, repeated, or with what is no field between them."""
    at = rng.randrange(len(encoded) + 1)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: encoded[:at],
        lambda: encoded[:at] + bytes([rng.randrange(256)]) + encoded[at + 1 :],
        lambda: encoded + encoded,
        lambda: encoded[:at] + rng.randbytes(rng.choice((1, 4, 64))) + encoded[at:],
        lambda: encoded + b"\x0a\xff\xff\xff\xff\x0f",  # a length of 4 GiB
        lambda: encoded + b"\x0b" * 200,  # groups in groups that do not end
        lambda: rng.randbytes(rng.choice((1, 16, 256))),
    )
    return rng.choice(ways)()
