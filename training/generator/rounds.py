"""Which merchants are shown which prompts when generators are measured, and from which noise.

A pool of prompts, some of each category, is shared by all merchants: a method without users draws each prompt once
for all of them. Every method draws the same prompt from the same noise, so that differences are the method's.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from training.market.attributes import BY_KIND, complete
from training.market.merchants import FEATURE_SCHEMA, Merchant, merchant
from training.market.prompts import ask_for, write
from training.models.feature_schema import FeatureSchema

Split = Literal["seen", "unseen", "shuffled", "permuted", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)
CATEGORIES = BY_KIND["category"].values
TRAINED_MERCHANTS = 2_000  # of the market that generators train on


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    merchants: int = 100
    prompts: int = 20  # of each merchant
    candidates: int = 5  # of each prompt
    pool: int = 25  # prompts of each category
    best_of: int = 64  # candidates for the best that selection alone could reach


@dataclass(frozen=True, eq=False)
class Rounds:
    """M merchants with P prompts each, out of a pool of N."""

    merchants: tuple[Merchant, ...]
    asked: tuple[dict[str, str], ...]  # of the pool's prompts
    prompts: tuple[str, ...]  # the same, written
    given: np.ndarray  # int (M, P), places in the pool
    size: Size

    @classmethod
    def of(cls, split: Split, size: Size | None = None) -> "Rounds":
        """The merchants and prompts of a split; `shuffled` and `permuted` have those of `seen`.

        seen:        merchants whose picks were trained on; prompts drawn anew, of which short ones may recur
        unseen:      merchants of whom only the profile is known
        shuffled:    every merchant with another one's features
        permuted:    the same prompts, their phrases in another order
        validation:  other merchants and prompts, to choose recipes by
        """
        size = size or Size()
        rng = np.random.default_rng((31, split == "validation"))
        asked = [_asked(category, rng) for category in CATEGORIES for _ in range(size.pool)]
        order = np.random.default_rng(32) if split == "permuted" else None
        numbers = {
            "unseen": TRAINED_MERCHANTS + np.arange(size.merchants),
            "validation": 50_000 + np.arange(size.merchants),
        }.get(split, np.random.default_rng(33).permutation(TRAINED_MERCHANTS)[: size.merchants])
        merchants = tuple(merchant(int(number)) for number in numbers)
        given = np.stack([_given(who, size, rng) for who in merchants])
        return cls(merchants, tuple(asked), tuple(write(a, order) for a in asked), given, size)

    @cached_property
    def features(self) -> np.ndarray:
        """Everybody's encoded profile, int64 (M, F)."""
        schema = FeatureSchema.from_json(FEATURE_SCHEMA)
        return np.stack([schema.encode(dict(who.features)) for who in self.merchants])

    @cached_property
    def categories(self) -> np.ndarray:
        """What each given prompt asks for, str (M, P)."""
        return np.array([asked["category"] for asked in self.asked])[self.given]

    def noise(self, seed: int, shape: tuple[int, ...], candidates: int) -> Tensor:
        """The starting noise of each prompt's candidates, (N, candidates, *shape); the first ones never change."""
        per_prompt = [
            torch.randn((candidates, *shape), generator=torch.Generator().manual_seed(1_000_000 * (seed + 1) + n))
            for n in range(len(self.prompts))
        ]
        return torch.stack(per_prompt)


def _asked(category: str, rng: np.random.Generator) -> dict[str, str]:
    return ask_for(complete({"category": category}, rng), rng)


def _given(who: Merchant, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Three in five prompts from the merchant's main category, as in the market."""
    own = CATEGORIES.index(str(who.features["main_category"])) * size.pool + np.arange(size.pool)
    others = np.setdiff1d(np.arange(len(CATEGORIES) * size.pool), own)
    n_own = round(0.6 * size.prompts)
    return np.concatenate([
        rng.choice(own, n_own, replace=False), rng.choice(others, size.prompts - n_own, replace=False)
    ])  # fmt: skip
