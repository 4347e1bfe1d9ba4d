"""Garments: consistent, as many kinds as the paper's, and back from their indices."""

import numpy as np
import pytest

from lab.market.attributes import ATTRIBUTES, KINDS, applies, complete, from_indices, to_indices
from lab.market.prompts import parse


def test_the_market_has_at_least_eight_categories_and_ten_kinds() -> None:
    categories = ATTRIBUTES[0]
    assert categories.kind == "category"
    assert len(categories.values) >= 8
    assert len(KINDS) - 1 >= 10


def test_phrases_are_unambiguous() -> None:
    phrases = [phrase for attribute in ATTRIBUTES for phrase in attribute.phrases]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("seed", range(20))
def test_a_garment_has_exactly_the_kinds_that_apply_to_it(seed: int) -> None:
    garment = complete({}, np.random.default_rng(seed))
    assert set(garment) == {kind for kind in KINDS if kind == "category" or applies(kind, garment)}
    assert from_indices(to_indices(garment)) == garment


def test_a_candidate_has_everything_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    asked = parse("dress,bell sleeves,sequins")
    for _ in range(50):
        garment = complete(asked, rng)
        assert asked.items() <= garment.items()
