"""MAP and GAUC against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from training.common.metrics import average_precision, group_auc, rank_metrics


def test_without_ties_they_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, selected = rng.normal(size=(50, 7)), rng.random((50, 7)) < 0.4
    selected[:, 0], selected[:, 1] = True, False
    auc = [roc_auc_score(y, s) for y, s in zip(selected, scores, strict=True)]
    ap = [average_precision_score(y, s) for y, s in zip(selected, scores, strict=True)]
    np.testing.assert_allclose(group_auc(scores, selected), auc)
    np.testing.assert_allclose(average_precision(scores, selected), ap)


def test_ties_count_half_and_stand_at_their_expected_rank() -> None:
    scores, selected = np.zeros((1, 5)), np.array([[True, False, False, False, False]])
    assert group_auc(scores, selected)[0] == 0.5
    assert average_precision(scores, selected)[0] == pytest.approx(1 / 3)  # expected rank 3
    both = np.array([[True, True, False]])
    assert average_precision(np.array([[1.0, 1.0, 0.0]]), both)[0] == pytest.approx(1.0)


def test_groups_of_one_class_are_dropped_and_counted() -> None:
    scores = np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    selected = np.array([[True, False], [True, True], [False, False]])
    ranking = rank_metrics(scores, selected)
    assert (ranking.map, ranking.gauc, ranking.groups, ranking.dropped) == (1.0, 1.0, 1, 2)
    assert math.isnan(rank_metrics(scores[1:], selected[1:]).gauc)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        rank_metrics(np.array([[math.nan, 1.0]]), np.array([[True, False]]))


def test_candidates_that_are_not_there_change_nothing() -> None:
    rng = np.random.default_rng(1)
    scores, selected = rng.normal(size=(40, 3)), np.tile([True, False, False], (40, 1))
    padded = np.concatenate([scores, np.full((40, 2), 99.0)], axis=1)
    more = np.concatenate([selected, np.zeros((40, 2), bool)], axis=1)
    present = np.tile([True, True, True, False, False], (40, 1))
    assert rank_metrics(padded, more, present) == rank_metrics(scores, selected)
