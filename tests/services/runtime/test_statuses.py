"""Errors put into rich statuses, and read back from a failed call's trailing metadata."""

from google.rpc import error_details_pb2

from services.runtime.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from services.runtime.statuses import DETAILS_KEY, details_of, to_status, violations_of


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
