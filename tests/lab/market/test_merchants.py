"""Merchants: a number is always the same one."""

import numpy as np

from lab.market.merchants import FEATURE_SCHEMA, merchant


def test_the_same_number_is_the_same_merchant() -> None:
    first, again, other = merchant(4), merchant(4), merchant(5)
    assert first.features == again.features
    assert np.array_equal(first.individual, again.individual)
    assert not np.array_equal(first.individual, other.individual)


def test_every_profile_may_be_written_and_nothing_of_it_is_unknown() -> None:
    schema = FEATURE_SCHEMA
    for number in range(200):
        profile = merchant(number).features
        assert schema.problems(profile) == [] and schema.encode(profile).unknown == ()
        assert set(profile) == {feature.name for feature in schema.features}
