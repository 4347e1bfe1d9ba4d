"""Rates of cells are found beside those of stores and arms."""

import numpy as np
import pytest

from training.measurement.lift.adjusting import cell_rates


def test_a_cell_does_not_borrow_the_rate_of_the_arms_that_are_in_it() -> None:
    """Arm 1 clicks three times as often, and is mostly in cell 1, which itself halves clicks."""
    rng = np.random.default_rng(0)
    arm = np.repeat([0, 0, 1, 1], 4)
    cell = np.tile([0, 1], 8)
    exposure = np.where((arm == 1) == (cell == 1), 90_000.0, 10_000.0)
    events = rng.poisson(exposure * np.array([0.05, 0.15])[arm] * np.array([1.0, 0.5])[cell])
    gamma = cell_rates(arm, cell, events.astype(float), exposure)
    assert gamma[1] / gamma[0] == pytest.approx(0.5, rel=0.03)
    assert (exposure * gamma[cell]).sum() == pytest.approx(exposure.sum())


def test_a_cell_without_events_or_exposure_stays_finite_and_above_0() -> None:
    gamma = cell_rates(np.zeros(3, int), np.arange(3), np.array([5.0, 0.0, 2.0]), np.array([50.0, 50.0, 0.0]))
    assert np.isfinite(gamma).all()
    assert (gamma > 0).all()
