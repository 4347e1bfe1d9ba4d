"""Profiles as integers: nothing unknown fails, everything unknown is named, and only who writes one is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contract.errors import FeatureError
from contract.feature_schema import SHOWN_CHARS, Encoded, Feature, FeatureSchema, shown
from contract.labels import Labels


def test_a_profile_is_encoded_slot_by_slot(schema: FeatureSchema) -> None:
    profile = {"style": "luxury", "audience": ["party", "teen", "party"], "years_open": 3}
    assert schema.encode(profile) == Encoded((2, 1, 3, 3), ())
    assert schema.n_slots == 4
    assert [(where.start, where.stop) for where in schema.slices] == [(0, 1), (1, 3), (3, 4)]


def test_numbers_fall_into_their_bins(schema: FeatureSchema) -> None:
    years = [-5, 0, 0.99, 1, 2, 6, 1000]
    assert [schema.encode({"years_open": y}).slots[3] for y in years] == [1, 1, 1, 2, 2, 4, 4]


def test_what_a_profile_does_not_say_is_slot_zero_and_not_unknown(schema: FeatureSchema) -> None:
    nothing = Encoded((0, 0, 0, 0), ())
    assert schema.encode({}) == schema.encode({"style": None, "audience": [], "years_open": None}) == nothing


@pytest.mark.parametrize(
    ("profile", "slots", "unknown"),
    [
        ({"colour": "red", "style": "luxury"}, (2, 0, 0, 0), ("colour",)),
        ({"style": "grunge"}, (0, 0, 0, 0), ("style",)),
        ({"style": 3}, (0, 0, 0, 0), ("style",)),
        ({"style": ["luxury"]}, (0, 0, 0, 0), ("style",)),
        ({"audience": ["nobody", "office"]}, (0, 2, 0, 0), ("audience",)),
        ({"audience": ["party", "office", "teen"]}, (0, 1, 2, 0), ("audience",)),  # the first in the schema's order
        ({"audience": "teen"}, (0, 0, 0, 0), ("audience",)),
        ({"audience": [["teen"], {"teen": 1}, None]}, (0, 0, 0, 0), ("audience",)),
        ({"years_open": "3"}, (0, 0, 0, 0), ("years_open",)),
        ({"years_open": True}, (0, 0, 0, 0), ("years_open",)),
        ({"years_open": math.nan}, (0, 0, 0, 0), ("years_open",)),
        ({"years_open": -math.inf}, (0, 0, 0, 0), ("years_open",)),
        ({"years_open": 10**400}, (0, 0, 0, 0), ("years_open",)),  # as JSON may have it, and no double
        ({"zodiac": 1, "style": "grunge", "audience": 3}, (0, 0, 0, 0), ("audience", "style", "zodiac")),
    ],
)
def test_what_is_unknown_is_encoded_and_named_and_never_raised(
    schema: FeatureSchema, profile: dict[str, object], slots: tuple[int, ...], unknown: tuple[str, ...]
) -> None:
    assert schema.encode(profile) == Encoded(slots, unknown)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"style": "luxury", "audience": ["party", "teen"], "years_open": 3},
        {"audience": [], "years_open": 0},
        {"years_open": 50.0},
    ],
)
def test_a_profile_without_a_slip_may_be_written(schema: FeatureSchema, profile: dict[str, object]) -> None:
    assert schema.problems(profile) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("colour", "red", "unknown feature; known are style, audience, years_open"),
        ("style", None, "has no value set"),
        ("style", 3, "must be one string"),
        ("style", "grunge", "unknown value 'grunge'; known are minimalist, luxury"),
        ("style", "x" * 200, f"unknown value {'x' * (SHOWN_CHARS - 1) + '…'!r}; known are minimalist, luxury"),
        ("audience", "teen", "must be a list of strings"),
        ("audience", ["teen", 3], "must be a list of strings"),
        ("audience", ["nobody"], "unknown value 'nobody'; known are teen, office, party"),
        ("audience", ["teen", "teen"], "must not give a value twice"),
        ("audience", ["teen", "office", "party"], "must have at most 2 values"),
        ("years_open", "3", "must be a number"),
        ("years_open", True, "must be a number"),
        ("years_open", math.nan, "must be a finite number"),
        ("years_open", math.inf, "must be a finite number"),
        ("years_open", 10**400, "must be a finite number"),
        ("years_open", -1, "must be from 0 to 50, not -1"),
        ("years_open", 50.00001, "must be from 0 to 50, not 50.00001"),  # and not "50, not 50"
    ],
)
def test_what_may_not_be_written_is_told_with_its_exact_bounds(
    schema: FeatureSchema, name: str, value: object, told: str
) -> None:
    assert schema.problems({name: value}) == [(name, told)]


def test_every_problem_of_a_profile_is_told_at_once_in_the_order_of_names(schema: FeatureSchema) -> None:
    found = schema.problems({"years_open": 51, "style": "grunge", "colour": "red", "audience": ["teen"]})
    assert [name for name, _ in found] == ["colour", "style", "years_open"]


def test_a_long_text_is_shown_by_its_beginning() -> None:
    assert shown("short") == "short" and shown("x" * SHOWN_CHARS) == "x" * SHOWN_CHARS
    assert shown("x" * 100, 10) == "x" * 9 + "…"


def test_the_schema_survives_its_file(schema: FeatureSchema, tmp_path: Path) -> None:
    schema.write(tmp_path / "feature_schema.json")
    assert FeatureSchema.read(tmp_path / "feature_schema.json") == schema
    entries = json.loads((tmp_path / "feature_schema.json").read_text())["features"]
    assert set(entries[2]) == {"name", "kind", "min", "max", "boundaries"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "colour", "vocabulary": ["a"]}, "unknown kind 'colour'"),
        ({"kind": "categorical", "vocabulary": []}, "the vocabulary is empty"),
        ({"kind": "categorical", "vocabulary": ["a", "a"]}, "repeats a value"),
        ({"kind": "categorical", "vocabulary": ["a", 1]}, "values that are not texts"),
        ({"kind": "multi", "vocabulary": ["a"], "max_values": 0}, "a whole number from 1"),
        ({"kind": "multi", "vocabulary": ["a"], "max_values": 1.5}, "a whole number from 1"),
        ({"kind": "numeric", "boundaries": [3, 1]}, "boundaries must ascend"),
        ({"kind": "numeric", "boundaries": ["1", "3"]}, "must be numbers"),
        ({"kind": "numeric", "boundaries": [math.nan]}, "must be numbers"),
        ({"kind": "numeric", "min": "0"}, "must be numbers"),
        ({"kind": "numeric", "units": "years"}, "malformed feature schema"),
        ({}, "malformed feature schema"),
        ({"kind": "numeric", "labels": ["年限"]}, "feature 'x': labels are"),
        ({"kind": "numeric", "labels": {"zh": {"vocabulary": []}}}, "feature 'x': labels are"),
        ({"kind": "numeric", "labels": {"zh": {"name": "年限", "vocabulary": ["一"]}}}, "1 labels of 0 words in 'zh'"),
        (
            {"kind": "categorical", "vocabulary": ["a"], "labels": {"zh": {"name": "风格"}}},
            "0 labels of 1 words in 'zh'",
        ),
        ({"kind": "numeric", "labels": {"中文": {"name": "年限"}}}, "'中文' is no language tag"),
        ({"kind": "numeric", "labels": {"zh": {"name": "\u200b"}}}, "shows nothing"),
        (
            {"kind": "multi", "vocabulary": ["a", "b"], "labels": {"de": {"name": "X", "vocabulary": ["A", "a"]}}},
            "feature 'x': the label 'a' is there twice in 'de'",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_by_its_file(
    fields: dict[str, object], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "feature_schema.json"
    path.write_text(json.dumps({"version": 1, "features": [{"name": "x", **fields}]}))
    with pytest.raises(FeatureError, match=f"feature_schema.json: .*{told}"):
        FeatureSchema.read(path)


def test_labels_make_no_other_schema_and_survive_its_file(schema: FeatureSchema, tmp_path: Path) -> None:
    style, audience, years = schema.features
    labelled = FeatureSchema(
        (
            replace(style, labels=(Labels("zh", "风格", ("极简", "奢华")),)),
            audience,
            replace(years, labels=(Labels("zh", "开店年限"), Labels("de", "Jahre"))),
        )
    )
    assert labelled == schema and labelled.difference(schema) is None and schema.difference(labelled) is None
    assert labelled.to_json() == schema.to_json() and repr(labelled) == repr(schema)
    other = FeatureSchema((replace(labelled.features[0], vocabulary=("luxury", "minimalist")), audience, years))
    assert schema.difference(other) == "the feature 'style' has another vocabulary"
    labelled.write(tmp_path / "feature_schema.json")
    read = FeatureSchema.read(tmp_path / "feature_schema.json")
    assert [feature.labels for feature in read.features] == [feature.labels for feature in labelled.features]
    assert "风格" in (tmp_path / "feature_schema.json").read_text(encoding="utf-8")
    with pytest.raises(FeatureError, match=r"the label 风格 \(zh\) is there twice"):
        FeatureSchema((labelled.features[0], replace(years, labels=(Labels("zh", "风格"),))))


def test_names_of_features_are_present_and_unique(tmp_path: Path) -> None:
    for features in ((), (Feature("x", "categorical", ("a",)),) * 2):
        with pytest.raises(FeatureError, match="present and unique"):
            FeatureSchema(features)
    with pytest.raises(FeatureError, match="a name is a text"):
        Feature("", "categorical", ("a",))
    with pytest.raises(FeatureError, match=r"nowhere\.json cannot be read: "):
        FeatureSchema.read(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda style, audience, years: (style, years), "the feature 'audience' is missing"),
        (lambda *all: (*all, Feature("zodiac", "categorical", ("aries",))), "the feature 'zodiac' is one too many"),
        (lambda style, *rest: (replace(style, vocabulary=("luxury",)), *rest), "'style' has another vocabulary"),
        (lambda style, audience, years: (style, audience, replace(years, boundaries=(1,))), "another boundaries"),
        (lambda style, audience, years: (audience, style, years), "the features have another order"),
    ],
)
def test_a_difference_is_named_by_its_first_feature(
    schema: FeatureSchema, other: Callable[..., tuple[Feature, ...]], told: str
) -> None:
    assert told in str(schema.difference(FeatureSchema(other(*schema.features))))
    assert schema.difference(FeatureSchema(schema.features, version=2)) == "the version is another"
    assert schema.difference(FeatureSchema(schema.features)) is None


def test_a_schema_without_bounds_is_json_that_everybody_reads(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("years_open", "numeric", min=0, boundaries=(1, 3)),))
    schema.write(tmp_path / "feature_schema.json")
    assert json.loads((tmp_path / "feature_schema.json").read_text(), parse_constant=pytest.fail)
    assert FeatureSchema.read(tmp_path / "feature_schema.json") == schema
