"""Padded widths: the maximum for whoever fits it, room to grow for whoever does not."""

import pytest

from contract import tensors
from contract.tensors import room_for


@pytest.mark.parametrize("in_use", [0, 1, 31, 32])
def test_whoever_fits_gets_the_maximum(in_use: int) -> None:
    assert room_for(in_use, 32) == 32


@pytest.mark.parametrize(("in_use", "room"), [(33, 64), (64, 64), (65, 128), (1000, 1024)])
def test_whoever_does_not_gets_the_next_power_of_two(in_use: int, room: int) -> None:
    assert room_for(in_use, 32) == room


def test_the_maxima_are_powers_of_two_so_that_growing_doubles() -> None:
    for maximum in (tensors.FEATURE_SLOTS, tensors.PHRASES, tensors.GENERATOR_USER_WIDTH, tensors.REWARD_USER_WIDTH):
        assert room_for(maximum, 1) == maximum
