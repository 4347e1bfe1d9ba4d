"""Errors put into rich statuses, and read back from a failed call's trailing metadata."""

from base64 import b64encode
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from services.runtime.statuses import DETAILS_KEY, cut, details_of, message_of, to_status, trailers_of, violations_of


def test_the_reason_is_the_enums_name_without_its_prefix() -> None:
    status = to_status(Unavailable("triton"))
    [info, retry] = details_of([(DETAILS_KEY, status.SerializeToString())])
    assert isinstance(info, error_details_pb2.ErrorInfo) and isinstance(retry, error_details_pb2.RetryInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "DEPENDENCY_UNAVAILABLE",
        "perfusion.v1",
        {"dependency": "triton"},
    )
    [info, _] = details_of([(DETAILS_KEY, to_status(ResourceExhausted("full")).SerializeToString())])
    assert isinstance(info, error_details_pb2.ErrorInfo) and info.reason == "TOO_MANY_CALLS"


def test_a_missing_thing_names_its_field_and_is_not_to_be_tried_again() -> None:
    [info] = details_of([(DETAILS_KEY, to_status(NotFound("no such", field="group_id")).SerializeToString())])
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("NOT_FOUND", {"field": "group_id"})


def test_violations_are_read_back() -> None:
    status = to_status(InvalidArgument(("prompt", "is empty"), ("seed", "is negative")))
    metadata = [("other", b"x"), (DETAILS_KEY, status.SerializeToString())]
    assert violations_of(metadata) == [("prompt", "is empty"), ("seed", "is negative")]
    assert violations_of(None) == violations_of([(DETAILS_KEY, b"\xff")]) == []


@pytest.mark.parametrize("text", ["x", "é", "红", "\n", "%", "🙂"])
def test_trailers_stay_within_what_clients_take(text: str) -> None:
    error = InvalidArgument(*((f"features[{text * 500}{i}]", text * 5000) for i in range(10_000)))
    trailers = trailers_of(error)
    message = quote(message_of(error), safe="")
    sizes = [
        len(key) + 32 + (len(value) if isinstance(value, str) else len(b64encode(value))) for key, value in trailers
    ]
    assert sum(sizes) + len(message) < 8192 - 1024  # what gRPC itself adds is less
    [info, bad] = details_of(trailers)
    assert isinstance(info, error_details_pb2.ErrorInfo) and isinstance(bad, error_details_pb2.BadRequest)
    assert len(bad.field_violations) + int(info.metadata["fields_left_out"]) == 10_000
    assert f"and {info.metadata['fields_left_out']} more fields" in message_of(error)


@given(st.text(), st.integers(9, 60))
def test_a_cut_text_is_a_beginning_that_fits(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(quote(short, safe="".join(map(chr, range(32, 127))).replace("%", ""), errors="replace")) <= most
    assert short == text or text.startswith(short.removesuffix("…"))


def test_a_few_wrong_fields_are_told_whole() -> None:
    error = InvalidArgument(("prompt", "must not be empty"), ("seed", "must be 0 or more"))
    assert message_of(error) == error.message == "prompt: must not be empty; seed: must be 0 or more"


def test_a_long_message_and_long_metadata_are_cut() -> None:
    error = NotFound("no such " + "用" * 5000, field="x" * 5000)
    assert len(to_status(error).SerializeToString()) < 2500


def test_who_may_try_again_is_told_in_both_of_grpcs_ways() -> None:
    keys = dict(trailers_of(Unavailable("triton")))
    assert keys["grpc-retry-pushback-ms"] == "1000" and DETAILS_KEY in keys
    assert dict(trailers_of(NotFound("no"))).keys() == {DETAILS_KEY}
