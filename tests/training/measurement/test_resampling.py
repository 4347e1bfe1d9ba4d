"""Draws, intervals and p-values, against numbers worked by hand."""

import numpy as np
import pytest

from training.measurement.resampling import draw_counts, holm, p_value, percentiles


def test_every_draw_takes_as_many_as_there_are() -> None:
    drawn = draw_counts(7, 500, np.random.default_rng(0))
    assert drawn.shape == (500, 7)
    assert (drawn.sum(1) == 7).all()
    assert drawn.mean(0) == pytest.approx(np.ones(7), abs=0.15)


def test_an_interval_is_the_middle_of_the_draws_and_says_what_was_undefined() -> None:
    found = percentiles(0.5, np.append(np.arange(101.0), [np.nan, np.inf]), 0.9)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0.5, 5.0, 95.0))
    assert found["undefined_draws"] == 2
    assert "undefined_draws" not in percentiles(0.5, np.arange(101.0), 0.9)


@pytest.mark.parametrize(("null", "expected"), [(50.0, 1.0), (-1.0, 2 / 101), (97.5, 2 * 3 / 101)])
def test_p_is_the_share_of_draws_beyond_the_null_twice_and_never_0(null: float, expected: float) -> None:
    assert p_value(np.arange(100.0), null) == pytest.approx(expected)


def test_holm_against_a_worked_example() -> None:
    """Holm 1979: p times 3, 2 and 1 from the smallest, never falling."""
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
