"""Malformed requests reach every field of every method, are the same for the same seed, and many are no message."""

import random
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from deploy.fuzzing.requests import DEPTH, message, request
from deploy.fuzzing.sending import FILES, Method, methods
from deploy.local.parts import SERVICES
from services.runtime.access import TABLE

METHODS = methods()


def test_every_method_is_sent_requests() -> None:
    assert {method.path.removeprefix("/") for method in METHODS} == set(TABLE)
    assert set(FILES) == set(SERVICES)


def fields(descriptor: Descriptor, depth: int = 0) -> Iterator[str]:
    for field in descriptor.fields:
        yield field.full_name
        if field.message_type is not None and depth < DEPTH:
            yield from fields(field.message_type, depth + 1)


def fields_set(made: Message) -> Iterator[str]:
    for field, value in made.ListFields():
        yield field.full_name
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            yield from (f.full_name for f in field.message_type.fields)
            inner = [value[key] for key in value]
        else:
            inner = list(value) if field.is_repeated else [value]
        for each in inner:
            if isinstance(each, Message):
                yield from fields_set(each)


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.path)
def test_every_field_is_set_in_some_request(method: Method) -> None:
    seen: set[str] = set()
    wanted = set(fields(method.of.input_type))
    for n in range(400):
        seen |= set(fields_set(message(method.of.input_type, random.Random(n))))
        if seen >= wanted:
            return
    assert wanted - seen == set()


def test_requests_follow_from_the_seed_and_many_are_no_message() -> None:
    of = next(method for method in METHODS if method.of.name == "Generate").of.input_type
    made = [request(of, random.Random(f"1 {n}")) for n in range(200)]
    assert made == [request(of, random.Random(f"1 {n}")) for n in range(200)]
    assert len(set(made)) > 190 and made != [request(of, random.Random(f"2 {n}")) for n in range(200)]
    refused = 0
    for each in made:
        try:
            GetMessageClass(of)().ParseFromString(each)
        except DecodeError:
            refused += 1
    assert 10 < refused < 100
