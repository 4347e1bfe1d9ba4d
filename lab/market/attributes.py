"""The attributes of a garment picture: their kinds, values and phrases, and which go together.

A garment is a mapping from attribute kind to value; a kind that makes no sense for a category
(the sleeve of a skirt) is absent. Knows words only: no pixels, no merchants, no utility.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Attribute:
    """One kind of attribute. `phrases[i]` is how a merchant asks for `values[i]`."""

    kind: str
    values: tuple[str, ...]
    phrases: tuple[str, ...]


def _attribute(kind: str, *own_phrases: str, **phrase_by_value: str) -> Attribute:
    """Values that are their own phrases, or phrases by value."""
    values = own_phrases or tuple(value.replace("_", "-") for value in phrase_by_value)
    return Attribute(kind, values, own_phrases or tuple(phrase_by_value.values()))


ATTRIBUTES: tuple[Attribute, ...] = (
    _attribute("category", "dress", "t-shirt", "hoodie", "coat", "jumpsuit", "skirt", "trousers", "shorts"),
    _attribute("colour", "black", "white", "red", "blue", "green", "yellow", "pink", "purple", "beige", "brown"),
    _attribute("sleeve", none="sleeveless", short="short sleeves", long="long sleeves"),
    _attribute("sleeve_style", straight="straight sleeves", bell="bell sleeves", puff="puff sleeves"),
    _attribute("neckline", round="round neck", v="v-neck", turtle="turtleneck", off_shoulder="off-shoulder"),
    _attribute("fit", slim="slim-fit", regular="regular-fit", oversized="oversized"),
    _attribute("length", mini="mini length", midi="midi length", maxi="maxi length"),
    _attribute("pattern", plain="plain", striped="striped", dotted="polka-dot", floral="floral", checked="checked"),
    _attribute("trim", none="no trim", sequins="sequins", ruffles="ruffles", bow="bow"),
    _attribute("belt", none="beltless", belted="belted"),
    _attribute("hair", long="long-hair model", short="short-hair model", bun="bun-hair model"),
    _attribute("backdrop", studio="studio backdrop", beach="beach backdrop", city="city backdrop"),
)
KINDS: tuple[str, ...] = tuple(attribute.kind for attribute in ATTRIBUTES)
BY_KIND: Mapping[str, Attribute] = MappingProxyType({a.kind: a for a in ATTRIBUTES})
ABSENT = -1  # the index of a kind that a garment does not have

_WITH_TOP = frozenset({"dress", "t-shirt", "hoodie", "coat", "jumpsuit"})
_WITH_LENGTH = frozenset({"dress", "coat", "skirt"})

Garment = dict[str, str]


def applies(kind: str, garment: Mapping[str, str]) -> bool:
    """Whether `kind` exists on a garment with this category (and, for sleeve_style, sleeve)."""
    if kind in ("sleeve", "neckline"):
        return garment["category"] in _WITH_TOP
    if kind == "sleeve_style":
        return garment["category"] in _WITH_TOP and garment.get("sleeve") != "none"
    if kind == "length":
        return garment["category"] in _WITH_LENGTH
    return True


def complete(asked: Mapping[str, str], rng: np.random.Generator) -> Garment:
    """A garment with the asked-for values, and every free attribute drawn uniformly."""
    garment: Garment = {}
    for attribute in ATTRIBUTES:
        if attribute.kind != "category" and not applies(attribute.kind, garment):
            continue
        values = attribute.values
        if attribute.kind == "sleeve" and "sleeve_style" in asked:
            values = values[1:]  # a sleeve with a style is there
        drawn = values[rng.integers(len(values))]
        garment[attribute.kind] = asked.get(attribute.kind, drawn)
    return garment


def to_indices(garment: Mapping[str, str]) -> np.ndarray:
    """The value index per kind, int64 (len(KINDS),), ABSENT where the garment has none."""
    return np.array(
        [BY_KIND[kind].values.index(garment[kind]) if kind in garment else ABSENT for kind in KINDS],
        dtype=np.int64,
    )


def from_indices(indices: np.ndarray) -> Garment:
    """The garment for the value indices of `to_indices`, int64 (len(KINDS),)."""
    return {
        kind: BY_KIND[kind].values[index]
        for kind, index in zip(KINDS, indices.tolist(), strict=True)
        if index != ABSENT
    }


def diversity(shown: np.ndarray) -> np.ndarray:
    """The share of kinds in which two pictures of a group differ, the mean over its pairs; (M, P, K, kinds) → (M, P).

    Kinds that neither picture has do not count.
    """
    k = shown.shape[2]
    first, second = np.triu_indices(k, 1)
    a, b = shown[:, :, first], shown[:, :, second]  # (M, P, pairs, kinds)
    there = (a != ABSENT) | (b != ABSENT)
    differing: np.ndarray = (((a != b) & there).sum(-1) / there.sum(-1)).mean(-1)
    return differing
