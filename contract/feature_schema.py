"""The feature schema: which features a merchant's profile has, and how they become integers.

Encoding, in schema order: a categorical feature takes 1 slot (1 + index), a multi-valued one `max_values` slots
(1 + index, ascending, then 0), a numeric one 1 slot (1 + number of boundaries <= x). 0 means unknown or missing.

One rule for what is unknown, in training and in serving: a feature that the schema does not have is left out, a value
that its feature does not know is encoded as 0, of too many values the first ones in the schema's order stay. None of
it fails, and all of it is named in `Encoded.unknown`, for the caller to count and report. Only who writes a profile is
refused: `problems` is strict, because somebody is there to correct a slip. `labels` says what a feature and its
vocabulary's words are called in other languages (contract/labels.py); a profile has the words themselves. Knows nothing
about networks or storage.

    {"name": "style", "kind": "categorical", "vocabulary": ["minimalist", "luxury"],
     "labels": {"zh": {"name": "风格", "vocabulary": ["极简", "奢华"]}}}
"""

import json
import math
import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from contract.errors import FeatureError, reading
from contract.labels import Labels, labels_from_json, labels_to_json, problem_of, repeated_name

Kind = Literal["categorical", "multi", "numeric"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEYS: dict[Kind, tuple[str, ...]] = {
    "categorical": ("name", "kind", "vocabulary"),
    "multi": ("name", "kind", "vocabulary", "max_values"),
    "numeric": ("name", "kind", "min", "max", "boundaries"),
}
UNKNOWN = 0  # the slot of a missing or unknown value, and the padding of a multi-valued feature
SHOWN_CHARS = 48  # of a client's text repeated in a problem: gRPC caps trailers at 8 KiB


@dataclass(frozen=True)
class Encoded:
    """A profile as the user encoder reads it."""

    slots: tuple[int, ...]  # (F,)
    unknown: tuple[str, ...]  # names of features that the schema lacks, or of whose value something is unknown


@dataclass(frozen=True)
class Feature:
    """One feature; the fields that its kind does not use keep their defaults.

    Raises:
        FeatureError: the fields do not make a feature.
    """

    name: str
    kind: Kind
    vocabulary: tuple[str, ...] = ()  # categorical, multi: the known values, order is the index
    max_values: int = 1  # multi: number of slots
    min: float = -math.inf  # numeric: smallest value that may be written, in the feature's unit
    max: float = math.inf  # numeric: largest value that may be written
    boundaries: tuple[float, ...] = ()  # numeric: ascending edges of the bins
    labels: tuple[Labels, ...] = field(default=(), compare=False, repr=False)  # no model knows them

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise FeatureError(f"feature {self.name!r}: a name is a text")
        if self.kind not in KINDS:
            raise FeatureError(f"feature {self.name!r}: unknown kind {self.kind!r}; there are {', '.join(KINDS)}")
        if not all(isinstance(word, str) for word in self.vocabulary):
            raise FeatureError(f"feature {self.name!r}: the vocabulary has values that are not texts")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise FeatureError(f"feature {self.name!r}: the vocabulary repeats a value")
        if self.kind != "numeric" and not self.vocabulary:
            raise FeatureError(f"feature {self.name!r}: the vocabulary is empty")
        if not all(map(_is_number, self.boundaries)) or not all(map(_is_bound, (self.min, self.max))):
            raise FeatureError(f"feature {self.name!r}: min, max and boundaries must be numbers")
        if sorted(set(self.boundaries)) != list(self.boundaries):
            raise FeatureError(f"feature {self.name!r}: boundaries must ascend")
        if not isinstance(self.max_values, int) or self.max_values < 1:
            raise FeatureError(f"feature {self.name!r}: max_values must be a whole number from 1")
        if problem := problem_of(self.labels, len(self.vocabulary)):
            raise FeatureError(f"feature {self.name!r}: {problem}")

    @property
    def n_slots(self) -> int:
        """How many integers encode it."""
        return self.max_values if self.kind == "multi" else 1

    @property
    def n_rows(self) -> int:
        """Rows of its embedding table: every encoded value, and 0 for unknown."""
        return 2 + len(self.boundaries) if self.kind == "numeric" else 1 + len(self.vocabulary)

    def encode(self, value: Any) -> tuple[tuple[int, ...], bool]:
        """The slots of a value (None: missing), and whether something of it is unknown."""
        if value is None:
            return (UNKNOWN,) * self.n_slots, False
        match self.kind:
            case "categorical":
                slot = self._slot_of(value)
                return (slot,), slot == UNKNOWN
            case "numeric":
                slot = 1 + bisect_right(self.boundaries, value) if _is_number(value) else UNKNOWN
                return (slot,), slot == UNKNOWN
            case "multi":
                words = value if isinstance(value, list | tuple | set | frozenset) else [None]
                found = {self._slot_of(word) for word in words}
                known = sorted(found - {UNKNOWN})
                kept = known[: self.max_values]
                padding = (UNKNOWN,) * (self.max_values - len(kept))
                return (*kept, *padding), UNKNOWN in found or len(kept) < len(known)

    def _slot_of(self, word: Any) -> int:
        return 1 + self.vocabulary.index(word) if isinstance(word, str) and word in self.vocabulary else UNKNOWN

    def problem(self, value: Any) -> str | None:
        """Why a value may not be written, None if it may."""
        match self.kind:
            case "categorical":
                if not isinstance(value, str):
                    return "must be one string"
                return None if value in self.vocabulary else self._unknown(value)
            case "multi":
                return self._problem_of_list(value)
            case "numeric":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    return "must be a number"
                if not _is_number(value):
                    return "must be a finite number"
                in_range = self.min <= value <= self.max
                return None if in_range else f"must be from {self.min!r} to {self.max!r}, not {value!r}"

    def _problem_of_list(self, value: Any) -> str | None:
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
            return "must be a list of strings"
        if unknown := [word for word in value if word not in self.vocabulary]:
            return self._unknown(unknown[0])
        if len(set(value)) < len(value):
            return "must not give a value twice"
        return None if len(value) <= self.max_values else f"must have at most {self.max_values} values"

    def _unknown(self, value: str) -> str:
        return f"unknown value {shown(value)!r}; known are {shown(', '.join(self.vocabulary), 200)}"

    def to_json(self, *, labels: bool = False) -> dict[str, Any]:
        """As an entry of feature_schema.json; a bound that is infinite, for which JSON has no number, is left out."""
        values = {key: getattr(self, key) for key in KEYS[self.kind]}
        if labels and self.labels:
            values["labels"] = labels_to_json(self.labels, "name", "vocabulary")
        return {key: value for key, value in values.items() if value not in (math.inf, -math.inf)}


@dataclass(frozen=True)
class FeatureSchema:
    """All features of a profile, in the order of their slots.

    Raises:
        FeatureError: there is none, or two have one name.
    """

    features: tuple[Feature, ...]
    version: int = 1

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) != len(names):
            raise FeatureError(f"feature names must be present and unique, got {names}")
        if twice := repeated_name(feature.labels for feature in self.features):
            raise FeatureError(f"the label {twice} is there twice")

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

    def encode(self, profile: Mapping[str, Any]) -> Encoded:
        """A profile of words, lists of words and numbers as F integers; see the module for what is unknown."""
        found = {feature.name: feature.encode(profile.get(feature.name)) for feature in self.features}
        unknown = [name for name in profile if name not in found or found[name][1]]
        return Encoded(tuple(slot for slots, _ in found.values() for slot in slots), tuple(sorted(unknown)))

    def problems(self, profile: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Everything that keeps a profile from being written, as (feature, problem), by name; None is a value unset."""
        features = {feature.name: feature for feature in self.features}
        found = []
        for name, value in sorted(profile.items()):
            if name not in features:
                problem: str | None = f"unknown feature; known are {shown(', '.join(features), 200)}"
            else:
                problem = "has no value set" if value is None else features[name].problem(value)
            if problem is not None:
                found.append((name, problem))
        return found

    def difference(self, other: "FeatureSchema") -> str | None:
        """How another schema differs from this one, by its first feature that does; None: they are the same."""
        if self == other:
            return None
        ours, theirs = ({feature.name: feature for feature in schema.features} for schema in (self, other))
        for name in [*ours, *theirs]:
            if name not in theirs:
                return f"the feature {name!r} is missing"
            if name not in ours:
                return f"the feature {name!r} is one too many"
            if ours[name] != theirs[name]:
                compared = [each.name for each in fields(Feature) if each.compare]
                keys = [key for key in compared if getattr(ours[name], key) != getattr(theirs[name], key)]
                return f"the feature {name!r} has another {' and '.join(keys)}"
        return "the features have another order" if [*ours] != [*theirs] else "the version is another"

    def to_json(self, *, labels: bool = False) -> dict[str, Any]:
        """In the form of feature_schema.json; without labels it is what models are made of."""
        return {"version": self.version, "features": [f.to_json(labels=labels) for f in self.features]}

    def to_text(self) -> str:
        """The content of feature_schema.json."""
        return json.dumps(self.to_json(labels=True), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, data: Any) -> "FeatureSchema":
        """What `to_json` gave.

        Raises:
            FeatureError: it is out of form.
        """
        try:
            features = tuple(_feature_from_json(entry) for entry in data["features"])
            return cls(features, int(data["version"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise FeatureError(f"malformed feature schema: {error}") from error

    def write(self, path: Path) -> None:
        """The file."""
        path.write_text(self.to_text(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "FeatureSchema":
        """From feature_schema.json.

        Raises:
            FeatureError: it cannot be read, or is out of form.
        """
        with reading(path, FeatureError):
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))


def shown(text: str, limit: int = SHOWN_CHARS) -> str:
    """A client's text, short enough to repeat."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _feature_from_json(entry: Mapping[str, Any]) -> Feature:
    values = dict(entry)
    for key in ("vocabulary", "boundaries"):
        if key in values:
            values[key] = tuple(values[key])
    if "labels" in values:
        whose = f"feature {values.get('name')!r}"
        values["labels"] = labels_from_json(values["labels"], "name", "vocabulary", whose, FeatureError)
    return Feature(**values)


def _is_number(value: Any) -> bool:
    """Whether this is a number as a double holds it; JSON has whole numbers that none does."""
    return _is_bound(value) and abs(value) <= sys.float_info.max


def _is_bound(value: Any) -> bool:
    """Whether this is a number or an infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
