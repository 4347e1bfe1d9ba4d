"""Scores are scaled cosines and ranks give every place once."""

import numpy as np

from services.ranking.scoring import ranked, scores


def test_a_score_is_the_scale_times_the_cosine() -> None:
    text = np.asarray([1, 0], np.float32)
    images = np.asarray([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(scores(text, images, 50.0), [50, 0, -50, 30], atol=1e-5)


def test_ranks_follow_scores_in_the_order_given() -> None:
    places = ranked(np.asarray([0.1, 3.0, -2.0]))
    assert [(place.score, place.rank) for place in places] == [(0.1, 2), (3.0, 1), (-2.0, 3)]


def test_of_equal_scores_the_earlier_ranks_better() -> None:
    assert [place.rank for place in ranked(np.asarray([1.0, 2.0, 2.0, 1.0]))] == [3, 1, 2, 4]


def test_one_image_is_first() -> None:
    assert [place.rank for place in ranked(np.asarray([-7.0]))] == [1]
