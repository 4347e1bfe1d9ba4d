"""Drawings: every attribute shows, and a seed repeats itself."""

import numpy as np

from lab.market.attributes import ATTRIBUTES, complete
from lab.market.drawing import SIZE_PX, draw


def test_two_pictures_of_one_garment_differ_and_one_seed_repeats_itself() -> None:
    garment = complete({}, np.random.default_rng(3))
    first, again, other = (draw(garment, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (SIZE_PX, SIZE_PX, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_attribute_shows_in_the_picture() -> None:
    base = complete({"category": "dress", "sleeve": "long"}, np.random.default_rng(5))
    for attribute in ATTRIBUTES:
        pictures = {
            draw({**base, attribute.kind: value}, np.random.default_rng(1)).tobytes()
            for value in attribute.values
            if attribute.kind not in ("category", "sleeve")
        }
        assert len(pictures) in (0, len(attribute.values))
