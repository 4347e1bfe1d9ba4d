"""α and AC2 against published values, and against their definitions pair by pair."""

import itertools

import numpy as np
import pytest

from training.measurement.rating.agreement import ac2, alpha, counts_of, intervals, ordinal_weights

GAP = np.nan
PUBLISHED = np.array([  # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): 12 units, 4 observers
    [1, 1, GAP, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [GAP, 5, 5, 5], [GAP, GAP, 1, 1], [GAP, 3, GAP, GAP],
])  # fmt: skip
FIVE = (1, 2, 3, 4, 5)


def with_gaps(seed: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Random scores of a few raters who agree more or less."""
    rng = np.random.default_rng(seed)
    scale = tuple(range(int(rng.integers(2, 5))))
    true = rng.choice(len(scale), (12, 1), p=rng.dirichlet(np.ones(len(scale))))
    scores = np.clip(true + rng.integers(-1, 2, (12, 5)) * (rng.random((12, 5)) < 0.5), 0, scale[-1]).astype(float)
    scores[rng.random(scores.shape) < 0.4] = GAP
    return scores, scale


def alpha_by_pairs(scores: np.ndarray) -> float:
    """The definition: mean squared ordinal distance within units over that among all pairable scores."""
    units = [unit[np.isfinite(unit)] for unit in scores]
    units = [unit for unit in units if len(unit) > 1]
    pool = np.concatenate(units)
    number = {value: (pool == value).sum() for value in np.unique(pool)}

    def distance(a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(n for value, n in number.items() if low <= value <= high)
        return float((between - (number[a] + number[b]) / 2) ** 2)

    within = sum(sum(distance(a, b) for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in units) / len(pool)
    among = sum(distance(a, b) for a, b in itertools.permutations(pool, 2)) / (len(pool) * (len(pool) - 1))
    return 1 - within / among


def ac2_by_pairs(scores: np.ndarray, scale: tuple[int, ...]) -> float:
    """The definition: mean weight of pairs of raters within units, and chance by how often scores are used."""
    weights, q = ordinal_weights(len(scale)), len(scale)
    units = [unit[np.isfinite(unit)].astype(int) for unit in scores]
    pairs = [np.mean([weights[a, b] for a, b in itertools.permutations(unit, 2)]) for unit in units if len(unit) > 1]
    used = np.mean([[np.mean(unit == value) for value in scale] for unit in units if len(unit)], 0)
    chance = weights.sum() / (q * (q - 1)) * (used * (1 - used)).sum()
    return float((np.mean(pairs) - chance) / (1 - chance))


def test_alpha_of_the_published_example() -> None:
    assert alpha(counts_of(PUBLISHED, FIVE)) == pytest.approx(0.815, abs=5e-4)


def test_ac1_of_the_published_example() -> None:
    """Gwet 2014 has the same data; AC1 is AC2 with weights that count nothing but equal scores."""
    assert ac2(counts_of(PUBLISHED, FIVE), agreement=np.eye(5)) == pytest.approx(0.77544, abs=5e-6)


@pytest.mark.parametrize("seed", range(30))
def test_both_are_what_their_definitions_say_pair_by_pair(seed: int) -> None:
    scores, scale = with_gaps(seed)
    counts = counts_of(scores, scale)
    assert alpha(counts) == pytest.approx(alpha_by_pairs(scores), abs=1e-9)
    assert ac2(counts) == pytest.approx(ac2_by_pairs(scores, scale), abs=1e-9)


def test_a_weight_is_as_good_as_a_copy() -> None:
    scores, scale = with_gaps(3)
    weight = np.arange(12) % 3
    copied = counts_of(np.repeat(scores, weight, axis=0), scale)
    counts = counts_of(scores, scale)
    assert alpha(counts, weight.astype(float)) == pytest.approx(alpha(copied), abs=1e-12)
    assert ac2(counts, weight.astype(float)) == pytest.approx(ac2(copied), abs=1e-12)


def test_ordinal_weights_of_three_scores() -> None:
    assert ordinal_weights(3) == pytest.approx(np.array([[1, 2 / 3, 0], [2 / 3, 1, 2 / 3], [0, 2 / 3, 1]]))


def test_scores_that_are_nearly_all_alike_lower_alpha_and_not_ac2() -> None:
    scores = np.full((50, 3), 2.0)
    scores[0, 0] = scores[1, 1] = 0
    counts = counts_of(scores)
    assert alpha(counts) < 0.05
    assert ac2(counts) > 0.95


def test_where_nothing_can_be_said_it_is_not() -> None:
    assert np.isnan(alpha(counts_of(np.full((4, 3), 2.0))))
    alone = counts_of(np.array([[1.0, GAP], [GAP, 2.0]]))
    assert np.isnan(alpha(alone))
    assert np.isnan(ac2(alone))


def test_intervals_hold_the_value_and_narrow_with_units() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, (200, 1))
    scores = np.clip(true + (rng.random((200, 3)) < 0.3), 0, 2).astype(float)
    few, many = (intervals(counts_of(scores[:n]), 200, np.random.default_rng(1), 0.95) for n in (30, 200))
    for name in ("alpha", "ac2"):
        assert many[name]["low"] < many[name]["value"] < many[name]["high"]
        assert many[name]["high"] - many[name]["low"] < few[name]["high"] - few[name]["low"]
