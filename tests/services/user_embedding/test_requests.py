"""A profile is stored only if its release's schema knows all of it, and whatever is wrong is named."""

import math

import pytest
from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1.user_pb2 import FeatureValue, StringList

from services.runtime.errors import InvalidArgument
from services.user_embedding.messages import feature_message
from services.user_embedding.profiles import Profile, Value
from services.user_embedding.requests import batch_of, profile_of, value_of
from services.user_embedding.users import Asked
from tests.services.market import SCHEMA


def put(**features: Value | None) -> Profile:
    """The profile that a request with these features stores; None is a value that is not set."""
    messages = {name: FeatureValue() if value is None else feature_message(value) for name, value in features.items()}
    user_id, profile = profile_of(pb.PutUserProfileRequest(user_id="u", features=messages), SCHEMA)
    assert user_id == "u"
    return profile


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("colour", "red", "unknown feature"),
        ("style", "minimal", "unknown value 'minimal'"),
        ("style", "", "unknown value"),
        ("style", 1.0, "must be one string"),
        ("style", ("luxury",), "must be one string"),
        ("style", None, "has no value set"),
        ("audience", "women", "must be a list of strings"),
        ("audience", ("women", "dogs"), "unknown value 'dogs'"),
        ("audience", ("women", "women"), "twice"),
        ("audience", ("women", "men", "teens", "kids"), "at most 3 values"),
        ("years_open", "3", "must be a number"),
        ("years_open", math.nan, "finite"),
        ("years_open", math.inf, "finite"),
        ("years_open", -0.1, "from 0 to 50"),
        ("years_open", 50.1, "from 0 to 50"),
    ],
)
def test_a_bad_value_is_named_with_what_is_wrong(name: str, value: Value | None, says: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        put(**{"style": "luxury", name: value})
    [(field, problem)] = refused.value.violations
    assert field == f"features[{name}]"
    assert says in problem


def test_good_values_pass_with_a_list_that_may_be_empty() -> None:
    profile: dict[str, Value] = {"style": "boho", "audience": (), "years_open": 0.0}
    assert put(**profile) == profile
    assert put() == {}


def test_an_endless_name_or_value_is_cut_in_the_answer() -> None:
    for features in ({"x" * 100_000: "a"}, {"style": "x" * 100_000}):
        with pytest.raises(InvalidArgument) as refused:
            put(**features)
        [(field, problem)] = refused.value.violations
        assert len(field) < 100 and len(problem) < 400


def test_a_value_of_each_kind_is_read() -> None:
    assert value_of(FeatureValue(string_value="luxury")) == "luxury"
    assert value_of(FeatureValue(string_list_value=StringList(values=["men", "teens"]))) == ("men", "teens")
    assert value_of(FeatureValue(number_value=4)) == 4.0
    assert value_of(FeatureValue()) is None


def test_users_of_a_batch_know_their_field() -> None:
    asked, release = batch_of(pb.BatchGetUserEmbeddingsRequest(user_ids=["a", "b"], release=3))
    assert asked == [Asked("a", "user_ids[0]"), Asked("b", "user_ids[1]")] and release == 3
