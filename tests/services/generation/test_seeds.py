"""Seeds: a candidate's noise depends on its own seed and on nothing else."""

import numpy as np

from services.generation.seeds import SEED_LIMIT, candidate_seeds, choice_noise_of, draw_seed, noise_of

SHAPE = (4, 8, 8)


def test_a_seed_alone_gives_the_noise_it_gave_in_a_batch() -> None:
    seeds = candidate_seeds(41, 5)
    for seed, sample in zip(seeds, noise_of(seeds, SHAPE), strict=True):
        assert np.array_equal(noise_of([seed], SHAPE)[0], sample)
    for seed, sample in zip(seeds, choice_noise_of(seeds, 43), strict=True):
        assert np.array_equal(choice_noise_of([seed], 43)[0], sample)


def test_seeds_wrap_at_their_limit() -> None:
    assert candidate_seeds(SEED_LIMIT - 1, 3) == [SEED_LIMIT - 1, 0, 1]


def test_neighbouring_seeds_give_unrelated_standard_noise() -> None:
    noise = noise_of(range(64), SHAPE).reshape(64, -1)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    correlations = np.corrcoef(noise) - np.eye(64)
    assert np.abs(correlations).max() < 0.3


def test_choices_have_standard_gumbel_noise_of_their_own() -> None:
    noise = choice_noise_of([0, 1, *range(SEED_LIMIT - 62, SEED_LIMIT)], 256)
    assert noise.dtype == np.float32
    assert abs(noise.mean() - np.euler_gamma) < 0.03 and abs(noise.std() - np.pi / 6**0.5) < 0.03
    starts = noise_of([0, 1, *range(SEED_LIMIT - 62, SEED_LIMIT)], (256,))
    correlations = np.corrcoef(np.concatenate([noise, starts])) - np.eye(128)
    assert np.abs(correlations).max() < 0.3


def test_drawn_seeds_are_in_range_and_differ() -> None:
    drawn = {draw_seed() for _ in range(100)}
    assert len(drawn) == 100 and all(0 <= seed < SEED_LIMIT for seed in drawn)
