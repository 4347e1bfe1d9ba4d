"""True utility: the value of a garment to a merchant, and its parts.

utility = PROMPT_WEIGHT · (share of the asked-for values present) + appeal + taste, where appeal is the
same for all merchants and taste is a weight per attribute value: from the merchant's features, mostly
from their *interactions* (so a model must cross them), plus an individual part that features do not
reveal. Only evaluations may import this module, no model: it is the answer sheet.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from lab.market.attributes import ATTRIBUTES, BY_KIND, KINDS
from lab.market.merchants import (
    AUDIENCES,
    PRICE_LEVELS,
    REGIONS,
    SEASONS,
    STYLES,
    WEIGHTS_LENGTH,
    YEARS_BOUNDARIES,
    Merchant,
    Profile,
)

PROMPT_WEIGHT = 12.0
TASTE_SCALE = 1.5  # scale of taste relative to the unit Gumbel noise of a pick
_SEED = 20264
_OFFSETS = dict(zip(KINDS, np.cumsum([0, *(len(a.values) for a in ATTRIBUTES)][:-1]), strict=True))

# Which two features decide together about a kind, and how much the kind matters (std of weights).
_INTERACTIONS: Mapping[str, tuple[str, str, float]] = {
    "colour": ("region", "season", 0.8),
    "sleeve": ("season", "price_level", 0.6),
    "sleeve_style": ("style", "price_level", 0.9),
    "neckline": ("style", "region", 0.8),
    "fit": ("audience", "style", 0.9),
    "length": ("main_category", "season", 0.8),
    "pattern": ("style", "season", 0.9),
    "trim": ("style", "price_level", 0.9),
    "belt": ("years_open", "style", 0.7),
    "hair": ("region", "price_level", 0.4),
    "backdrop": ("season", "region", 0.5),
}
# A style's own preferences, independent of the other features: (kind, value) -> weight.
_LEANINGS: Mapping[str, Mapping[tuple[str, str], float]] = {
    "minimalist": {
        ("sleeve_style", "bell"): 2.4, ("sleeve_style", "puff"): -0.8, ("pattern", "plain"): 1.6,
        ("trim", "none"): 1.2, ("trim", "sequins"): -1.6, ("colour", "beige"): 0.6,
        ("colour", "white"): 0.6,
    },
    "luxury": {
        ("trim", "sequins"): 2.6, ("trim", "none"): -0.8, ("sleeve_style", "bell"): -1.2,
        ("belt", "belted"): 0.6, ("colour", "black"): 0.8, ("colour", "purple"): 0.6,
    },
    "bohemian": {("pattern", "floral"): 1.6, ("trim", "ruffles"): 1.4, ("fit", "oversized"): 0.6},
    "streetwear": {("fit", "oversized"): 1.4, ("pattern", "checked"): 1.2, ("backdrop", "city"): 0.8},
    "romantic": {("trim", "bow"): 1.6, ("sleeve_style", "puff"): 1.4, ("colour", "pink"): 1.0},
    "sporty": {("pattern", "striped"): 1.6, ("trim", "none"): 1.0, ("length", "mini"): 0.8},
}  # fmt: skip


def utility(merchant: Merchant, garment: Mapping[str, str], asked: Mapping[str, str]) -> float:
    """The true utility of this garment to this merchant for a prompt with these values."""
    return score(taste_weights(merchant), garment, asked)


def utility_by_features(features: Profile, garment: Mapping[str, str], asked: Mapping[str, str]) -> float:
    """The best estimate of the utility from the merchant's features alone."""
    return score(feature_weights(features), garment, asked)


def utility_without_user(garment: Mapping[str, str], asked: Mapping[str, str]) -> float:
    """The best estimate of the utility without the merchant: the population average."""
    return score(population_weights(), garment, asked)


def score(weights: np.ndarray, garment: Mapping[str, str], asked: Mapping[str, str]) -> float:
    """Prompt match plus appeal plus the taste `weights` (WEIGHTS_LENGTH,) of the garment's values."""
    match = np.mean([garment.get(kind) == value for kind, value in asked.items()])
    at = [_position(kind, value) for kind, value in garment.items()]
    return float(PROMPT_WEIGHT * match + (appeal_weights()[at] + weights[at]).sum())


def gain(merchant: Merchant, kind: str, value: str) -> float:
    """The utility to this merchant of a garment with this value, minus the mean over the kind's values."""
    of_kind = (appeal_weights() + taste_weights(merchant))[_slice(kind)]
    return float(of_kind[BY_KIND[kind].values.index(value)] - of_kind.mean())


def taste_weights(merchant: Merchant) -> np.ndarray:
    """A merchant's whole taste, float64 (WEIGHTS_LENGTH,)."""
    return feature_weights(merchant.features) + merchant.individual


def feature_weights(features: Profile) -> np.ndarray:
    """The part of the taste that the features decide, float64 (WEIGHTS_LENGTH,)."""
    weights = np.zeros(WEIGHTS_LENGTH)
    for kind, table in _tables().items():
        first, second, _ = _INTERACTIONS[kind]
        rows = np.ix_(_levels(first, features), _levels(second, features))
        weights[_slice(kind)] += table[rows].mean(axis=(0, 1))
    for (kind, value), lean in _LEANINGS[str(features["style"])].items():
        weights[_position(kind, value)] += lean
    return TASTE_SCALE * weights


@lru_cache(maxsize=1)
def population_weights() -> np.ndarray:
    """The mean taste of the market, float64 (WEIGHTS_LENGTH,); features are drawn independently."""
    weights = np.zeros(WEIGHTS_LENGTH)
    for kind, table in _tables().items():
        weights[_slice(kind)] += table.mean(axis=(0, 1))
    for leanings in _LEANINGS.values():
        for (kind, value), lean in leanings.items():
            weights[_position(kind, value)] += lean / len(STYLES)
    return TASTE_SCALE * weights


@lru_cache(maxsize=1)
def appeal_weights() -> np.ndarray:
    """The appeal of each value, the same for all merchants, float64 (WEIGHTS_LENGTH,)."""
    return np.random.default_rng((_SEED, 1)).normal(0.0, 0.3, WEIGHTS_LENGTH)


@lru_cache(maxsize=1)
def _tables() -> dict[str, np.ndarray]:
    """For each kind (levels of the first feature, levels of the second, values), centred."""
    tables = {}
    for number, (kind, (first, second, std)) in enumerate(_INTERACTIONS.items()):
        rng = np.random.default_rng((_SEED, 2, number))
        shape = (_level_count(first), _level_count(second), len(BY_KIND[kind].values))
        table = rng.normal(0.0, std, shape)
        tables[kind] = table - table.mean(axis=2, keepdims=True)
    return tables


_VOCABULARIES: Mapping[str, tuple[str, ...]] = {
    "style": STYLES, "price_level": PRICE_LEVELS, "region": REGIONS, "season": SEASONS,
    "audience": AUDIENCES, "main_category": BY_KIND["category"].values,
}  # fmt: skip


def _level_count(feature: str) -> int:
    return len(_VOCABULARIES.get(feature, (*YEARS_BOUNDARIES, "more")))


def _levels(feature: str, features: Profile) -> list[int]:
    value = features[feature]
    if isinstance(value, list):
        return [_VOCABULARIES[feature].index(v) for v in value]
    if isinstance(value, str):
        return [_VOCABULARIES[feature].index(value)]
    return [int(np.searchsorted(YEARS_BOUNDARIES, value, side="right"))]


def _position(kind: str, value: str) -> int:
    return int(_OFFSETS[kind]) + BY_KIND[kind].values.index(value)


def _slice(kind: str) -> slice:
    start = int(_OFFSETS[kind])
    return slice(start, start + len(BY_KIND[kind].values))
