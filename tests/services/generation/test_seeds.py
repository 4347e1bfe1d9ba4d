"""Seeds: a candidate's noise depends on its own seed and on nothing else."""

import numpy as np

from services.generation.seeds import SEED_LIMIT, candidate_seeds, draw_seed, noise_of

SHAPE = (4, 8, 8)


def test_a_seed_alone_gives_the_noise_it_gave_in_a_batch() -> None:
    seeds = candidate_seeds(41, 5)
    for seed, sample in zip(seeds, noise_of(seeds, SHAPE), strict=True):
        assert np.array_equal(noise_of([seed], SHAPE)[0], sample)


def test_seeds_wrap_at_their_limit() -> None:
    assert candidate_seeds(SEED_LIMIT - 1, 3) == [SEED_LIMIT - 1, 0, 1]


def test_neighbouring_seeds_give_unrelated_standard_noise() -> None:
    noise = noise_of(range(64), SHAPE).reshape(64, -1)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    correlations = np.corrcoef(noise) - np.eye(64)
    assert np.abs(correlations).max() < 0.3


def test_drawn_seeds_are_in_range_and_differ() -> None:
    drawn = {draw_seed() for _ in range(100)}
    assert len(drawn) == 100 and all(0 <= seed < SEED_LIMIT for seed in drawn)
