"""Profiles: what a release lets them hold, and how they become the integers its user encoder reads.

Knows the rules of a feature schema. Does not know users, protobuf, storage, or where a schema comes from.

Two strictnesses on purpose. `violations` is strict and guards writes: a merchant's typo must be refused while
somebody is there to correct it. `encode` is lenient: a profile written under an older release may hold a value that a
newer schema dropped, and such a value reads as unknown (slot 0) rather than failing the round.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import TypeAlias

from services.runtime.feature_schema import Feature, FeatureSchema

Value: TypeAlias = str | tuple[str, ...] | float
Profile: TypeAlias = Mapping[str, Value]
Slots: TypeAlias = tuple[int, ...]  # (F,)

_UNKNOWN = 0  # slot of a missing or unknown value, and the padding of a multi-valued feature
_SHOWN_CHARS = 48  # of a client's text repeated in an error: gRPC caps trailers at 8 KiB


def violations(schema: FeatureSchema, profile: Mapping[str, Value | None]) -> list[tuple[str, str]]:
    """Everything wrong with a profile as (field, problem), by name; empty if it may be stored.

    None is a value that the client left unset.
    """
    features = {feature.name: feature for feature in schema.features}
    found = []
    for name, value in sorted(profile.items()):
        problem = _problem(features, name, value)
        if problem is not None:
            found.append((f"features[{_shown(name)}]", problem))
    return found


def encode(schema: FeatureSchema, profile: Profile) -> Slots:
    """The profile as the user encoder reads it  # (F,)"""
    return tuple(slot for feature in schema.features for slot in _slots(feature, profile.get(feature.name)))


def _problem(features: Mapping[str, Feature], name: str, value: Value | None) -> str | None:
    feature = features.get(name)
    if feature is None:
        return f"unknown feature; known are {_shown(', '.join(features), 200)}"
    if value is None:
        return "has no value set"
    match feature.kind:
        case "categorical":
            return _categorical_problem(feature, value)
        case "multi":
            return _multi_problem(feature, value)
        case "numeric":
            return _numeric_problem(feature, value)


def _categorical_problem(feature: Feature, value: Value) -> str | None:
    if not isinstance(value, str):
        return "must be one string"
    return None if value in feature.vocabulary else _unknown_value(feature, value)


def _multi_problem(feature: Feature, value: Value) -> str | None:
    if not isinstance(value, tuple):
        return "must be a list of strings"
    for word in value:
        if word not in feature.vocabulary:
            return _unknown_value(feature, word)
    if len(set(value)) < len(value):
        return "must not give a value twice"
    return None if len(value) <= feature.max_values else f"must have at most {feature.max_values} values"


def _numeric_problem(feature: Feature, value: Value) -> str | None:
    if not isinstance(value, float):
        return "must be a number"
    if not math.isfinite(value):
        return "must be a finite number"
    if not feature.min <= value <= feature.max:
        return f"must be from {feature.min:g} to {feature.max:g}, not {value:g}"
    return None


def _slots(feature: Feature, value: Value | None) -> Slots:
    """categorical: 1 + index. multi: 1 + index ascending, then padding. numeric: 1 + boundaries reached."""
    match feature.kind:
        case "categorical":
            known = [1 + index for index, word in enumerate(feature.vocabulary) if word == value]
            return tuple(known or [_UNKNOWN])
        case "multi":
            given = set(value) if isinstance(value, tuple) else set()
            slots = [1 + index for index, word in enumerate(feature.vocabulary) if word in given]
            return tuple((slots + [_UNKNOWN] * feature.max_values)[: feature.max_values])
        case "numeric":
            if not isinstance(value, float) or not math.isfinite(value):
                return (_UNKNOWN,)
            return (1 + bisect_right(feature.boundaries, value),)


def _unknown_value(feature: Feature, value: str) -> str:
    return f"unknown value {_shown(value)!r}; known are {_shown(', '.join(feature.vocabulary), 200)}"


def _shown(text: str, limit: int = _SHOWN_CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
