"""Seeds and the noise they stand for. A candidate's noise depends on its own seed and on nothing else.

Each seed has two independent streams: the initial latents, and the noise on the merchant's favours that decides among
wishes.
"""

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SEED_LIMIT = 2**63
CHOICES = 2**64  # offset from a seed to a key that no seed has: Philox has keys of 128 bits


def draw_seed() -> int:
    """A seed for a request that gave none."""
    return secrets.randbelow(SEED_LIMIT)


def candidate_seeds(seed: int, num_candidates: int) -> list[int]:
    """Candidate k's seed is (seed + k) mod 2^63, so it alone, as a request's seed, gives candidate k first."""
    return [(seed + k) % SEED_LIMIT for k in range(num_candidates)]


def noise_of(seeds: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One sample of standard normal noise per seed  # (B, *shape)"""
    return np.stack([_stream(seed).standard_normal(shape, dtype=np.float32) for seed in seeds])


def choice_noise_of(seeds: Sequence[int], width: int) -> NDArray[np.float32]:
    """One sample of standard Gumbel noise per seed  # (B, width)"""
    return np.stack([_stream(seed + CHOICES).gumbel(size=width) for seed in seeds]).astype(np.float32)


def _stream(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))
