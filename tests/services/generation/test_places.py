"""Rounds have a number of places, and one that ends leaves its own."""

import pytest

from services.generation.places import Places
from services.runtime.errors import ResourceExhausted


def test_a_place_is_free_again_however_its_round_ended() -> None:
    places = Places(1, "rounds")
    with places.taken(), pytest.raises(ResourceExhausted), places.taken():
        pass
    with pytest.raises(ZeroDivisionError), places.taken():
        _ = 1 / 0
    with places.taken():
        assert places.used == 1
    assert places.used == 0
