"""Simulated experts answer as their chances say."""

from dataclasses import replace

import numpy as np
import pytest

from lab.shop.raters import Panel, ratings
from lab.shop.rating_check import design
from training.measurement.rating.answers import Rated
from training.measurement.rating.protocol import NAMES, Protocol

QUALITY = {"human": [1.0] * 6, "perfusion": [0.2] * 6}


@pytest.fixture(scope="module")
def rated() -> Rated:
    return design(replace(Protocol(), raters_per_picture=8), sets=150)


def test_mean_scores_are_those_expected(rated: Rated) -> None:
    """Without what all pictures or all answers of a rater share, which would need many panels to average out."""
    panel = Panel(rater=0.0, taste=0.0)
    lines = ratings(rated, panel, QUALITY, np.random.default_rng(0))
    for method, (mean, *_) in QUALITY.items():
        scores = [
            line["answers"][NAMES[0]] for line in lines
            if rated.key["tasks"][line["task_id"]]["kind"] == "first"
            and rated.key["pictures"][picture_of(rated, line["task_id"])]["method"] == method
        ]  # fmt: skip
        assert np.mean(scores) == pytest.approx(panel.expected(mean), abs=0.12)


def picture_of(rated: Rated, task_id: str) -> str:
    return next(t["picture"] for r in rated.design["raters"] for t in r["tasks"] if t["task_id"] == task_id)


def test_expectation_is_between_the_scores_and_rises_with_quality() -> None:
    found = [Panel().expected(mean) for mean in (-9, -1, 0, 1, 9)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (pytest.approx(0, abs=1e-9), pytest.approx(2, abs=1e-9))


def test_some_tasks_stay_unanswered(rated: Rated) -> None:
    asked = sum(len(rater["tasks"]) for rater in rated.design["raters"])
    lines = ratings(rated, Panel(), QUALITY, np.random.default_rng(0), answered=0.5)
    assert len(lines) == pytest.approx(asked / 2, rel=0.1)
