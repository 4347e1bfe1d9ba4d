"""The profile features a release knows, typed. Pure data: encoding a profile is the user embedding service's work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["categorical", "multi", "numeric"]
_KINDS: tuple[Kind, ...] = ("categorical", "multi", "numeric")


@dataclass(frozen=True)
class Feature:
    """One profile feature. Fields that its kind does not use are empty."""

    name: str
    kind: Kind
    vocabulary: tuple[str, ...] = ()  # categorical, multi
    max_values: int = 0  # multi
    min: float = 0.0  # numeric, in the feature's unit
    max: float = 0.0
    boundaries: tuple[float, ...] = ()  # numeric, ascending

    @property
    def slots(self) -> int:
        """How many integers encode it."""
        return self.max_values if self.kind == "multi" else 1

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> "Feature":
        kind = next((known for known in _KINDS if known == entry["kind"]), None)
        if kind is None:
            raise ValueError(f"unknown feature kind {entry['kind']!r}")
        return cls(
            name=str(entry["name"]),
            kind=kind,
            vocabulary=tuple(map(str, entry.get("vocabulary", ()))),
            max_values=int(entry.get("max_values", 0)),
            min=float(entry.get("min", 0.0)),
            max=float(entry.get("max", 0.0)),
            boundaries=tuple(map(float, entry.get("boundaries", ()))),
        )


@dataclass(frozen=True)
class FeatureSchema:
    """A release's features in encoding order."""

    version: int
    features: tuple[Feature, ...]

    @property
    def slots(self) -> int:
        """F, the number of integers that encode a profile."""
        return sum(feature.slots for feature in self.features)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "FeatureSchema":
        """Reads feature_schema.json's content; KeyError or ValueError when malformed."""
        return cls(int(document["version"]), tuple(Feature.parse(entry) for entry in document["features"]))
