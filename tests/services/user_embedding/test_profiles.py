"""A profile may hold what its release knows, and is encoded as the release's encoder was trained."""

import math

import pytest

from services.runtime.feature_schema import FeatureSchema
from services.user_embedding.profiles import Value, encode, violations
from tests.services.market import FEATURES


@pytest.fixture
def schema() -> FeatureSchema:
    return FeatureSchema.parse(FEATURES)


def test_every_feature_takes_its_slots_in_schema_order(schema: FeatureSchema) -> None:
    profile: dict[str, Value] = {"years_open": 3.0, "audience": ("men", "teens"), "style": "luxury"}
    assert schema.slots == 5
    assert encode(schema, profile) == (2, 1, 3, 0, 3)


def test_missing_features_are_slot_zero(schema: FeatureSchema) -> None:
    assert violations(schema, {}) == []
    assert encode(schema, {}) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("years", "slot"), [(0.0, 1), (0.99, 1), (1.0, 2), (5.9, 3), (6.0, 4), (50.0, 4)])
def test_a_number_counts_the_boundaries_it_has_reached(schema: FeatureSchema, years: float, slot: int) -> None:
    assert encode(schema, {"years_open": years})[-1] == slot


def test_the_order_of_a_list_means_nothing(schema: FeatureSchema) -> None:
    assert encode(schema, {"audience": ("kids", "women")}) == encode(schema, {"audience": ("women", "kids")})


def test_values_that_a_newer_schema_dropped_encode_as_unknown(schema: FeatureSchema) -> None:
    old: dict[str, Value] = {"style": "gone", "audience": ("gone", "kids"), "years_open": "ten", "extra": 1.0}
    assert encode(schema, old) == (0, 4, 0, 0, 0)


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
def test_a_bad_value_is_named_with_what_is_wrong(
    schema: FeatureSchema, name: str, value: Value | None, says: str
) -> None:
    [(field, problem)] = violations(schema, {"style": "luxury", name: value})
    assert field == f"features[{name}]"
    assert says in problem


def test_good_values_pass_with_a_list_that_may_be_empty(schema: FeatureSchema) -> None:
    assert violations(schema, {"style": "boho", "audience": (), "years_open": 0.0}) == []


def test_an_endless_name_or_value_is_cut_in_the_answer(schema: FeatureSchema) -> None:
    [(field, problem)] = violations(schema, {"x" * 100_000: "a"})
    assert len(field) < 100 and len(problem) < 400
    [(field, problem)] = violations(schema, {"style": "x" * 100_000})
    assert len(problem) < 400
