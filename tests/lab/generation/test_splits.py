"""Which merchants are shown which prompts: splits share prompts, pairs share theirs, noise belongs to the prompt."""

import numpy as np
import pytest

from lab.generation.splits import CATEGORIES, TRAINED_MERCHANTS, Rounds, Size
from lab.market.merchants import FEATURE_SCHEMA
from lab.market.prompts import parse
from training.common.errors import ModelError

SIZE = Size(merchants=6, prompts=5, candidates=2, pool=4, best_of=8)


@pytest.fixture(scope="module")
def rounds() -> Rounds:
    return Rounds.of("seen", SIZE)


def test_splits_share_prompts_and_differ_in_merchants(rounds: Rounds) -> None:
    others = {split: Rounds.of(split, SIZE) for split in ("unseen", "shuffled", "permuted", "validation")}
    numbers = {name: {int(who.user_id.split("-")[1]) for who in r.merchants} for name, r in others.items()}
    assert max(int(who.user_id.split("-")[1]) for who in rounds.merchants) < TRAINED_MERCHANTS <= min(numbers["unseen"])
    assert not numbers["validation"] & numbers["unseen"]
    for name in ("shuffled", "permuted"):
        assert np.array_equal(others[name].given, rounds.given)
    assert np.array_equal(others["permuted"].features, rounds.features)
    assert others["unseen"].prompts == rounds.prompts != others["validation"].prompts
    permuted = others["permuted"].prompts
    assert permuted != rounds.prompts and [parse(p) for p in permuted] == [parse(p) for p in rounds.prompts]
    assert len(rounds.prompts) == SIZE.pool * len(CATEGORIES)
    assert all(len(set(row)) == SIZE.prompts for row in rounds.given)


def test_pairs_share_prompts_of_their_categories_and_change_places_when_shuffled(rounds: Rounds) -> None:
    shuffled = Rounds.of("shuffled", SIZE)
    for m, who in enumerate(rounds.merchants):
        other = rounds.merchants[m ^ 1]
        assert shuffled.merchants[m].user_id == other.user_id
        assert np.array_equal(rounds.given[m], rounds.given[m ^ 1])
        same = who.features["main_category"] == other.features["main_category"]
        assert (rounds.categories[m] == who.features["main_category"]).sum() == (4 if same else 2)
    with pytest.raises(ModelError, match="in pairs; got 5"):
        Size(merchants=5)
    with pytest.raises(ModelError, match="a pool of 12 or more"):
        Size(pool=11)


def test_noise_belongs_to_the_prompt(rounds: Rounds) -> None:
    two, eight = (rounds.noise(0, (4, 8, 8), k) for k in (2, 8))
    assert np.array_equal(two, eight[:, :2]) and not np.array_equal(two, rounds.noise(1, (4, 8, 8), 2))


def test_profiles_are_encoded_as_the_services_do(rounds: Rounds) -> None:
    schema = FEATURE_SCHEMA
    assert rounds.features.shape == (6, schema.n_slots) and rounds.features.dtype == np.int64
    for row, who in zip(rounds.features.tolist(), rounds.merchants, strict=True):
        assert tuple(row) == schema.encode(who.features).slots
