"""The feature schema: which features a merchant's profile has, and how they become integers.

Encoding: features in schema order; categorical takes 1 slot (1 + index, 0 = unknown or missing);
multi takes `max_values` slots (1 + index, sorted and deduplicated, 0 = padding); numeric takes
1 slot (1 + number of boundaries <= x, 0 = missing). Knows nothing about networks.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from training.models.errors import FeatureError, reading

Kind = Literal["categorical", "multi", "numeric"]
KEYS: dict[str, tuple[str, ...]] = {
    "categorical": ("name", "kind", "vocabulary"),
    "multi": ("name", "kind", "vocabulary", "max_values"),
    "numeric": ("name", "kind", "min", "max", "boundaries"),
}


@dataclass(frozen=True)
class Feature:
    """One feature; the fields that its kind does not use keep their defaults."""

    name: str
    kind: Kind
    vocabulary: tuple[str, ...] = ()  # categorical, multi: the known values, order is the index
    max_values: int = 1  # multi: number of slots
    min: float = -math.inf  # numeric: smallest value accepted by strict encoding
    max: float = math.inf  # numeric: largest value accepted by strict encoding
    boundaries: tuple[float, ...] = ()  # numeric: ascending edges of the bins

    def __post_init__(self) -> None:
        if self.kind not in KEYS:
            raise FeatureError(f"feature {self.name!r}: unknown kind {self.kind!r}")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise FeatureError(f"feature {self.name!r}: the vocabulary repeats a value")
        if self.kind != "numeric" and not self.vocabulary:
            raise FeatureError(f"feature {self.name!r}: the vocabulary is empty")
        if sorted(set(self.boundaries)) != list(self.boundaries):
            raise FeatureError(f"feature {self.name!r}: boundaries must ascend")
        if self.max_values < 1:
            raise FeatureError(f"feature {self.name!r}: max_values must be at least 1")

    @property
    def n_slots(self) -> int:
        return self.max_values if self.kind == "multi" else 1

    @property
    def n_rows(self) -> int:
        """Rows of the embedding table: every encoded value, and 0 for unknown."""
        return 2 + len(self.boundaries) if self.kind == "numeric" else 1 + len(self.vocabulary)

    def encode(self, value: Any, *, strict: bool) -> list[int]:
        if value is None:
            return [0] * self.n_slots
        if self.kind == "numeric":
            return [self._encode_number(value, strict)]
        if self.kind == "multi":
            return self._encode_values(value, strict)
        return [self._encode_word(value, strict)]

    def _encode_number(self, value: Any, strict: bool) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FeatureError(f"feature {self.name!r}: {value!r} is not a number")
        if strict and not self.min <= value <= self.max:  # NaN fails both comparisons
            raise FeatureError(f"feature {self.name!r}: {value!r} is not in [{self.min}, {self.max}]")
        return 0 if math.isnan(value) else 1 + sum(edge <= value for edge in self.boundaries)

    def _encode_word(self, value: Any, strict: bool) -> int:
        if not isinstance(value, str):
            raise FeatureError(f"feature {self.name!r}: {value!r} is not a string")
        if value in self.vocabulary:
            return 1 + self.vocabulary.index(value)
        if strict:
            raise FeatureError(f"feature {self.name!r}: unknown value {value!r}")
        return 0

    def _encode_values(self, values: Any, strict: bool) -> list[int]:
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise FeatureError(f"feature {self.name!r}: {values!r} is not a list of strings")
        rows = sorted({self._encode_word(value, strict) for value in values} - {0})
        if len(rows) > self.max_values:
            raise FeatureError(f"feature {self.name!r}: more than {self.max_values} values")
        return rows + [0] * (self.max_values - len(rows))

    def to_json(self) -> dict[str, Any]:
        return {key: asdict(self)[key] for key in KEYS[self.kind]}


@dataclass(frozen=True)
class FeatureSchema:
    """All features of a profile, in the order of their slots."""

    features: tuple[Feature, ...]
    version: int = 1

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) != len(names):
            raise FeatureError(f"feature names must be present and unique, got {names}")

    @property
    def n_slots(self) -> int:
        """F, the length of an encoded profile."""
        return sum(feature.n_slots for feature in self.features)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each feature's slots lie in an encoded profile."""
        ends = [0]
        for feature in self.features:
            ends.append(ends[-1] + feature.n_slots)
        return tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))

    def encode(self, profile: Mapping[str, Any], *, strict: bool = False) -> list[int]:
        """A profile as F integers. Missing features are 0; so are unknown values unless `strict`."""
        unknown = set(profile) - {feature.name for feature in self.features}
        if unknown:
            raise FeatureError(f"unknown feature {sorted(unknown)[0]!r}")
        return [row for feature in self.features for row in feature.encode(profile.get(feature.name), strict=strict)]

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "features": [f.to_json() for f in self.features]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FeatureSchema":
        try:
            features = tuple(_feature_from_json(entry) for entry in data["features"])
            return cls(features, int(data["version"]))
        except (KeyError, TypeError) as error:
            raise FeatureError(f"malformed feature schema: {error}") from error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "FeatureSchema":
        with reading(path, FeatureError):
            return cls.from_json(json.loads(path.read_text()))


def _feature_from_json(entry: Mapping[str, Any]) -> Feature:
    fields = dict(entry)
    for key in ("vocabulary", "boundaries"):
        if key in fields:
            fields[key] = tuple(fields[key])
    return Feature(**fields)
