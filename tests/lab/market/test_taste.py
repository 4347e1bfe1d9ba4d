"""Tastes: more than the sum of features, what was asked for counts, and the paper's two merchants."""

import numpy as np
import pytest

from lab.market import taste
from lab.market.attributes import BY_KIND, complete
from lab.market.merchants import case_study, merchant
from lab.market.prompts import parse
from lab.market.taste import feature_weights, utility


def test_taste_is_more_than_the_sum_of_its_features() -> None:
    """Were taste additive in style and price, this mixed difference would vanish."""
    base = dict(merchant(1).features)
    corner = {
        (style, price): feature_weights({**base, "style": style, "price_level": price})
        for style in ("minimalist", "luxury")
        for price in ("mid", "premium")
    }
    mixed = (
        corner["minimalist", "mid"] - corner["minimalist", "premium"]
        - corner["luxury", "mid"] + corner["luxury", "premium"]
    )  # fmt: skip
    assert np.abs(mixed).max() > 1.0


def test_utility_rewards_what_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    garment = complete({"category": "dress", "trim": "sequins"}, rng)
    someone = merchant(0)
    kept = utility(someone, garment, {"category": "dress", "trim": "sequins"})
    missed = utility(someone, garment, {"category": "dress", "trim": "bow"})
    assert kept - missed == pytest.approx(taste.PROMPT_WEIGHT / 2)


def test_the_case_study_merchants_like_what_the_paper_says() -> None:
    minimalist, luxury = case_study()
    asked = parse("dress,v-neck,slim-fit,long sleeves,long-hair model")
    rng = np.random.default_rng(0)
    for _ in range(20):
        garment = complete(asked, rng)
        bell = utility(minimalist, {**garment, "sleeve_style": "bell"}, asked)
        assert bell > utility(minimalist, {**garment, "sleeve_style": "straight"}, asked)
        sequins = utility(luxury, {**garment, "trim": "sequins"}, asked)
        assert sequins > utility(luxury, {**garment, "trim": "none"}, asked)


def test_a_values_gain_is_its_utility_over_the_mean_of_its_kind() -> None:
    someone, garment = merchant(3), complete({"category": "dress"}, np.random.default_rng(0))
    worth = {
        value: utility(someone, {**garment, "trim": value}, {"category": "dress"}) for value in BY_KIND["trim"].values
    }
    for value in worth:
        assert taste.gain(someone, "trim", value) == pytest.approx(worth[value] - np.mean(list(worth.values())))
