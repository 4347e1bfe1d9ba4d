"""Merchants: profile features, which models may know, and an individual part, which no model knows.

Knows profiles; `taste` has the preferences.
"""

from dataclasses import dataclass

import numpy as np

from contract.feature_schema import Feature, FeatureSchema
from lab.market.attributes import ATTRIBUTES, BY_KIND
from lab.market.labels import OF_FEATURES

FeatureValue = str | list[str] | float
Profile = dict[str, FeatureValue]

STYLES = ("minimalist", "luxury", "bohemian", "streetwear", "romantic", "sporty")
PRICE_LEVELS = ("budget", "mid", "premium")
REGIONS = ("north", "south", "coast", "metropolis")
SEASONS = ("spring", "summer", "autumn", "winter")
AUDIENCES = ("teens", "students", "professionals", "parents", "seniors")
YEARS_BOUNDARIES = (1.0, 3.0, 6.0, 10.0, 20.0)

FEATURE_SCHEMA = FeatureSchema(
    (
        Feature("style", "categorical", STYLES, labels=OF_FEATURES["style"]),
        Feature("price_level", "categorical", PRICE_LEVELS, labels=OF_FEATURES["price_level"]),
        Feature("main_category", "categorical", BY_KIND["category"].values, labels=OF_FEATURES["main_category"]),
        Feature("region", "categorical", REGIONS, labels=OF_FEATURES["region"]),
        Feature("season", "categorical", SEASONS, labels=OF_FEATURES["season"]),
        Feature("audience", "multi", AUDIENCES, max_values=3, labels=OF_FEATURES["audience"]),
        Feature("years_open", "numeric", min=0, max=50, boundaries=YEARS_BOUNDARIES, labels=OF_FEATURES["years_open"]),
    )
)
WEIGHTS_LENGTH = sum(len(a.values) for a in ATTRIBUTES)
INDIVIDUAL_STD = 0.5  # of the taste weights that features do not reveal


@dataclass(frozen=True, eq=False)
class Merchant:
    """One merchant.

    individual: float64 (WEIGHTS_LENGTH,), the part of the taste that features do not reveal,
                one weight for each attribute value in the order of ATTRIBUTES.
    """

    user_id: str
    features: Profile
    individual: np.ndarray


def merchant(number: int, market_seed: int = 0) -> Merchant:
    """Merchant `number` of a market: the same number always gives the same merchant."""
    rng = np.random.default_rng((market_seed, 7, number))
    features = _features(rng)
    individual = rng.normal(0.0, INDIVIDUAL_STD, WEIGHTS_LENGTH)
    return Merchant(f"merchant-{number:06d}", features, individual)


def case_study() -> tuple[Merchant, Merchant]:
    """The paper's two stores: a minimalist who likes bell sleeves, a luxury one with sequins."""
    minimalist: Profile = {
        "style": "minimalist", "price_level": "mid", "main_category": "dress", "region": "coast",
        "season": "autumn", "audience": ["professionals"], "years_open": 4.0,
    }  # fmt: skip
    luxury: Profile = {
        "style": "luxury", "price_level": "premium", "main_category": "dress",
        "region": "metropolis", "season": "winter", "audience": ["professionals", "parents"],
        "years_open": 12.0,
    }  # fmt: skip
    nothing_hidden = np.zeros(WEIGHTS_LENGTH)
    return (
        Merchant("minimalist-store", minimalist, nothing_hidden),
        Merchant("luxury-store", luxury, nothing_hidden),
    )


def _features(rng: np.random.Generator) -> Profile:
    audience = rng.choice(AUDIENCES, size=int(rng.integers(1, 4)), replace=False)
    return {
        "style": str(rng.choice(STYLES)),
        "price_level": str(rng.choice(PRICE_LEVELS)),
        "main_category": str(rng.choice(BY_KIND["category"].values)),
        "region": str(rng.choice(REGIONS)),
        "season": str(rng.choice(SEASONS)),
        "audience": sorted(audience.tolist()),
        "years_open": round(min(rng.gamma(1.5, 5.0), 50.0), 1),
    }
