"""Ratios and their crossed bootstrap, against means that are written out."""

import numpy as np
import pytest

from training.measurement.rating.ratios import Scores, means, ratios

METHODS = ("ai", "human")


def scores(seed: int = 0, sets: int = 12, raters: int = 4, gaps: float = 0.2) -> Scores:
    rng = np.random.default_rng(seed)
    place = [(s, r, m) for s in range(sets) for r in range(raters) for m in range(2) if rng.random() < 0.7]
    of = np.array(place)
    score = rng.integers(0, 3, (len(of), 2)).astype(float)
    score[rng.random(score.shape) < gaps] = np.nan
    return Scores(score, of[:, 0], of[:, 1], of[:, 2])


def test_means_are_those_of_a_table_with_every_row_as_often_as_its_set_times_its_rater() -> None:
    given = scores()
    rng = np.random.default_rng(1)
    set_counts, rater_counts = rng.integers(0, 3, (5, 12)), rng.integers(0, 3, (5, 4))
    found = means(given, 2, set_counts.astype(float), rater_counts.astype(float))
    for draw in range(5):
        often = set_counts[draw][given.set] * rater_counts[draw][given.rater]
        for method in range(2):
            rows = np.repeat(given.score[given.method == method], often[given.method == method], axis=0)
            by_aspect = np.nanmean(rows, 0)
            assert found[draw, method, :2] == pytest.approx(by_aspect)
            assert found[draw, method, 2] == pytest.approx(by_aspect.mean())


def test_the_ratio_is_to_the_reference_and_the_overall_is_of_means() -> None:
    given = scores(gaps=0)
    found = ratios(given, METHODS, "human", (12, 4), 50, 0)
    ai, human = (given.score[given.method == m].mean(0) for m in range(2))
    assert found.ratio[0, :2] == pytest.approx(ai / human)
    assert found.ratio[0, 2] == pytest.approx(ai.mean() / human.mean())
    assert found.ratio[1] == pytest.approx(np.ones(3))
    assert found.drawn.shape == (50, 2, 3)


def test_pictures_and_raters_both_widen_the_interval() -> None:
    """Scores that differ among raters alone, and among sets alone: the draws vary with either."""
    place = np.array([(s, r, m) for s in range(20) for r in range(5) for m in range(2)])
    by_rater = np.where(place[:, 2] == 0, 1 + (place[:, 1] == 0), 1.5)[:, None]
    by_set = np.where(place[:, 2] == 0, 1 + (place[:, 0] < 4), 1.5)[:, None]
    for score in (by_rater, by_set):
        found = ratios(Scores(score.astype(float), *place.T), METHODS, "human", (20, 5), 300, 0)
        assert found.drawn[:, 0, 0].std() > 0.03


def test_a_draw_without_any_score_is_undefined() -> None:
    given = Scores(np.array([[1.0], [1.0]]), np.array([0, 1]), np.array([0, 0]), np.array([0, 1]))
    found = ratios(given, METHODS, "human", (2, 1), 100, 0)
    assert np.isnan(found.drawn[:, 0, 0]).any()
    assert np.isfinite(found.drawn[:, 0, 0]).any()
