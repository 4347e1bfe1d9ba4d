"""Rounds: picks follow Plackett–Luce, and are predictable in part."""

import numpy as np
import pytest

from lab.market.merchants import merchant
from lab.market.rounds import choose, play
from lab.market.taste import utility_by_features


def test_choices_follow_plackett_luce() -> None:
    rng = np.random.default_rng(0)
    utilities = np.array([0.0, 1.0, 2.0])
    picks = [np.flatnonzero(s) for s in (choose(utilities, rng) for _ in range(20_000))]
    single = np.bincount([p[0] for p in picks if len(p) == 1], minlength=3)
    expected = np.exp(utilities) / np.exp(utilities).sum()
    assert single / single.sum() == pytest.approx(expected, abs=0.015)


def test_a_merchants_picks_are_predictable_from_features_but_not_wholly() -> None:
    rng = np.random.default_rng(0)
    rounds = [play(merchant(number), 5, rng) for number in range(300)]
    best_by_truth = np.mean([r.selected[np.argmax(r.utilities)] for r in rounds])
    guesses = [np.argmax([utility_by_features(r.merchant.features, g, r.asked) for g in r.garments]) for r in rounds]
    best_by_features = np.mean([r.selected[guess] for r, guess in zip(rounds, guesses, strict=True)])
    assert 0.3 < best_by_features < best_by_truth < 0.95
