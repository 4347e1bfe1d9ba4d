"""Bytes to messages: whatever comes, it is a message or refused with the name of what is wrong."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from perfusion.v1 import feedback_service_pb2 as feedback_pb
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1 import user_embedding_service_pb2 as users_pb
from perfusion.v1.user_pb2 import FeatureValue, StringList

from services.runtime.decoding import MAX_FIELDS, decoded, decoded_by_entries
from services.runtime.errors import InvalidArgument

KINDS = [pb.GenerateRequest, pb.GetGroupRequest, users_pb.PutUserProfileRequest]


@given(st.binary(max_size=60), st.sampled_from(KINDS))
def test_any_bytes_are_a_message_or_refused(data: bytes, kind: type[pb.GenerateRequest]) -> None:
    try:
        message = decoded(data, kind.FromString)
    except InvalidArgument as error:
        [(field, problem)] = error.violations
        assert field in {kind.DESCRIPTOR.name, *kind.DESCRIPTOR.fields_by_name} and problem
    else:
        assert isinstance(message, kind)


@given(
    st.builds(
        pb.GenerateRequest,
        prompt=st.text(max_size=20),
        reference_image=st.binary(max_size=300),
        seed=st.integers(-(2**63), 2**63 - 1),
        guidance_scale=st.floats(),
        refused_wishes=st.lists(st.text(max_size=4), max_size=5),
    )
)
def test_what_a_client_serialises_is_read(message: pb.GenerateRequest) -> None:
    data = message.SerializeToString(deterministic=True)
    assert decoded(data, pb.GenerateRequest.FromString).SerializeToString(deterministic=True) == data


def test_nested_text_that_is_not_utf_8_is_refused() -> None:
    profile = users_pb.PutUserProfileRequest(features={"style": FeatureValue(string_value="luxury")})
    data = profile.SerializeToString().replace(b"luxury", b"lux\xffry")
    with pytest.raises(InvalidArgument, match="PutUserProfileRequest: the bytes sent are no such message"):
        decoded(data, users_pb.PutUserProfileRequest.FromString)


def test_as_many_entries_as_allowed_pass() -> None:
    whole = pb.GenerateRequest(refused_wishes=["x"] * MAX_FIELDS)
    assert decoded(whole.SerializeToString(), pb.GenerateRequest.FromString) == whole
    nested = users_pb.PutUserProfileRequest(
        features={"f": FeatureValue(string_list_value=StringList(values=["x"] * 9000))}
    )
    assert decoded(nested.SerializeToString(), users_pb.PutUserProfileRequest.FromString) == nested


def test_a_field_of_a_later_api_is_no_mistake() -> None:
    assert decoded(b"\xfa\x7f\x01x", pb.GetGroupRequest.FromString) is not None


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_of_a_streams_message_each_entry_is_read_or_empty(entries: list[bytes]) -> None:
    data = b"".join(b"\x0a" + bytes([len(entry)]) + entry for entry in entries)
    message = decoded_by_entries(data, feedback_pb.ImportFeedbackRequest.FromString)
    assert len(message.requests) == len(entries)
    for entry, read in zip(entries, message.requests, strict=True):
        try:
            assert read == feedback_pb.SubmitFeedbackRequest.FromString(entry)
        except DecodeError:
            assert read == feedback_pb.SubmitFeedbackRequest()


def test_a_streams_message_that_is_none_is_refused_as_any_other() -> None:
    for data in (b"\x0a\xff", b"\x0a\x00" * (MAX_FIELDS + 1)):
        with pytest.raises(InvalidArgument, match="ImportFeedbackRequest"):
            decoded_by_entries(data, feedback_pb.ImportFeedbackRequest.FromString)
