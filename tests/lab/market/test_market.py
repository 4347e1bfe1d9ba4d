"""The market: garments are consistent, prompts round-trip, choices follow the stated law."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab.market import taste
from lab.market.attributes import ATTRIBUTES, BY_KIND, KINDS, applies, complete, from_indices, to_indices
from lab.market.drawing import SIZE_PX, draw
from lab.market.merchants import case_study, merchant
from lab.market.prompts import PHRASE_OF, ask_for, parse, vocabulary, write
from lab.market.rounds import choose, play
from lab.market.taste import feature_weights, utility, utility_by_features
from training.data.prepare import shuffled


def test_the_market_has_at_least_eight_categories_and_ten_kinds() -> None:
    categories = ATTRIBUTES[0]
    assert categories.kind == "category"
    assert len(categories.values) >= 8
    assert len(KINDS) - 1 >= 10


def test_phrases_are_unambiguous() -> None:
    phrases = [phrase for attribute in ATTRIBUTES for phrase in attribute.phrases]
    assert len(set(phrases)) == len(phrases)


def test_the_vocabulary_says_what_a_kind_needs() -> None:
    by_kind = {entry["kind"]: entry for entry in vocabulary().to_json()}
    for garment in ({"category": c, "sleeve": s} for c in BY_KIND["category"].values for s in BY_KIND["sleeve"].values):
        said = {PHRASE_OF[kind, value] for kind, value in garment.items() if applies(kind, garment)}
        for kind, entry in by_kind.items():
            if kind not in ("category", "sleeve"):
                assert all(said & set(needed) for needed in entry.get("only_with", [])) is applies(kind, garment)
    assert all(entry["phrases"] == list(BY_KIND[kind].phrases) for kind, entry in by_kind.items())
    assert json.loads(Path("training/weights/tiny/phrases.json").read_text()) == vocabulary().to_json()


@pytest.mark.parametrize("seed", range(20))
def test_a_garment_has_exactly_the_kinds_that_apply_to_it(seed: int) -> None:
    garment = complete({}, np.random.default_rng(seed))
    assert set(garment) == {kind for kind in KINDS if kind == "category" or applies(kind, garment)}
    assert from_indices(to_indices(garment)) == garment


@pytest.mark.parametrize("seed", range(20))
def test_a_prompt_says_what_was_asked_for_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = ask_for(complete({}, rng), rng)
    prompt = write(asked)
    assert parse(prompt) == asked
    assert parse(shuffled(prompt, rng)) == asked


def test_a_candidate_has_everything_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    asked = parse("dress,bell sleeves,sequins")
    for _ in range(50):
        garment = complete(asked, rng)
        assert asked.items() <= garment.items()


def test_two_pictures_of_one_garment_differ_and_one_seed_repeats_itself() -> None:
    garment = complete({}, np.random.default_rng(3))
    first, again, other = (draw(garment, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (SIZE_PX, SIZE_PX, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_attribute_shows_in_the_picture() -> None:
    base = complete({"category": "dress", "sleeve": "long"}, np.random.default_rng(5))
    for attribute in ATTRIBUTES:
        pictures = {
            draw({**base, attribute.kind: value}, np.random.default_rng(1)).tobytes()
            for value in attribute.values
            if attribute.kind not in ("category", "sleeve")
        }
        assert len(pictures) in (0, len(attribute.values))


def test_choices_follow_plackett_luce() -> None:
    rng = np.random.default_rng(0)
    utilities = np.array([0.0, 1.0, 2.0])
    picks = [np.flatnonzero(s) for s in (choose(utilities, rng) for _ in range(20_000))]
    single = np.bincount([p[0] for p in picks if len(p) == 1], minlength=3)
    expected = np.exp(utilities) / np.exp(utilities).sum()
    assert single / single.sum() == pytest.approx(expected, abs=0.015)


def test_the_same_number_is_the_same_merchant() -> None:
    first, again, other = merchant(4), merchant(4), merchant(5)
    assert first.features == again.features
    assert np.array_equal(first.individual, again.individual)
    assert not np.array_equal(first.individual, other.individual)


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


def test_a_merchants_picks_are_predictable_from_features_but_not_wholly() -> None:
    rng = np.random.default_rng(0)
    rounds = [play(merchant(number), 5, rng) for number in range(300)]
    best_by_truth = np.mean([r.selected[np.argmax(r.utilities)] for r in rounds])
    guesses = [np.argmax([utility_by_features(r.merchant.features, g, r.asked) for g in r.garments]) for r in rounds]
    best_by_features = np.mean([r.selected[guess] for r, guess in zip(rounds, guesses, strict=True)])
    assert 0.3 < best_by_features < best_by_truth < 0.95
