"""Profile features as plain Python values, and back.

It knows the three kinds of values that the API has. Which feature takes which, the release says; the service checks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real

from perfusion.v1.user_pb2 import FeatureValue, StringList

# A word, words, a number, or None for a feature that is unknown.
PlainValue = str | Iterable[str] | float | None


def feature_values(features: Mapping[str, PlainValue]) -> dict[str, FeatureValue]:
    """Name to value as the API takes it; features that are None are left out, which means unknown."""
    return {name: _feature_value(name, value) for name, value in features.items() if value is not None}


def plain_values(features: Mapping[str, FeatureValue]) -> dict[str, str | list[str] | float]:
    """Name to word, list of words or number."""
    return {name: _plain_value(value) for name, value in features.items()}


def _feature_value(name: str, value: object) -> FeatureValue:
    if isinstance(value, str):
        return FeatureValue(string_value=value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return FeatureValue(number_value=float(value))
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        words = list(value)
        if all(isinstance(word, str) for word in words):
            return FeatureValue(string_list_value=StringList(values=words))
    raise TypeError(f"features[{name}]: {value!r} is neither a word, nor words, nor a number")


def _plain_value(value: FeatureValue) -> str | list[str] | float:
    kind = value.WhichOneof("kind")
    if kind == "string_list_value":
        return list(value.string_list_value.values)
    return value.number_value if kind == "number_value" else value.string_value
