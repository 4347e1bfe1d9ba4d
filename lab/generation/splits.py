"""The merchants, prompts and noise of generator measurements.

All merchants share a pool of prompts, some of each category: a method without the merchant draws each prompt once for
all of them. Every method draws the same prompt from the same noise, so that differences are the method's. Merchants
form pairs that share their prompts, so that a picture drawn for one can be shown to the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lab.generation.names import SPLITS as SPLITS
from lab.generation.names import Split as Split
from lab.market.attributes import BY_KIND, complete
from lab.market.merchants import FEATURE_SCHEMA, Merchant, merchant
from lab.market.prompts import ask_for, write
from lab.market.rounds import Round, play
from training.common.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CATEGORIES = BY_KIND["category"].values
TRAINED_MERCHANTS = 2_000  # of the market that generators train on
HISTORY, SHOWN = 8, 5  # rounds of a merchant in that market, on average, and the candidates of each


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    merchants: int = 100
    prompts: int = 20  # of each merchant
    candidates: int = 5  # of each prompt
    pool: int = 15  # prompts of each category
    best_of: int = 64  # candidates for the best possible result of selection alone

    def __post_init__(self) -> None:
        if self.merchants % 2:
            raise ModelError(f"merchants are measured in pairs; got {self.merchants}")
        if self.pool < 2 * self.of_main_category:
            raise ModelError(f"{self.prompts} prompts a merchant need a pool of {2 * self.of_main_category} or more")

    @property
    def of_main_category(self) -> int:
        """How many of a merchant's prompts are for their main category, and for their partner's."""
        return round(0.3 * self.prompts)


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
        unseen:      merchants without picks in the training data; only the profile is known
        shuffled:    merchants of seen: each is shown the pictures of the other merchant of the pair
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
        pairs = [_given(merchants[m : m + 2], size, rng) for m in range(0, size.merchants, 2)]
        given = np.repeat(pairs, 2, axis=0)
        if split == "shuffled":
            merchants = tuple(merchants[m ^ 1] for m in range(size.merchants))
        return cls(merchants, tuple(asked), tuple(write(a, order) for a in asked), given, size)

    @property
    def pairs(self) -> np.ndarray:
        """Each merchant's pair, int (M,): those of a pair share their prompts."""
        return np.arange(len(self.merchants)) // 2

    @cached_property
    def features(self) -> np.ndarray:
        """All merchants' encoded profiles, int64 (M, F)."""
        return np.array([FEATURE_SCHEMA.encode(who.features).slots for who in self.merchants])

    def histories(self) -> list[list[Round]]:
        """Each merchant's earlier rounds: as many as a merchant has in the market, with other prompts."""
        return [_played(who) for who in self.merchants]

    @cached_property
    def categories(self) -> np.ndarray:
        """What each given prompt asks for, str (M, P)."""
        return np.array([asked["category"] for asked in self.asked])[self.given]

    def noise(self, seed: int, shape: tuple[int, ...], candidates: int) -> "Tensor":
        """The starting noise of each prompt's candidates, (N, candidates, *shape); the first ones never change."""
        import torch  # takes seconds to load; a command's --help needs none

        per_prompt = [
            torch.randn((candidates, *shape), generator=torch.Generator().manual_seed(1_000_000 * (seed + 1) + n))
            for n in range(len(self.prompts))
        ]
        return torch.stack(per_prompt)


def _played(who: Merchant) -> list[Round]:
    rng = np.random.default_rng((34, int(who.user_id.split("-")[1])))
    return [play(who, SHOWN, rng) for _ in range(HISTORY)]


def _asked(category: str, rng: np.random.Generator) -> dict[str, str]:
    return ask_for(complete({"category": category}, rng), rng)


def _given(pair: Sequence[Merchant], size: Size, rng: np.random.Generator) -> np.ndarray:
    """Three in ten prompts from the main category of either merchant, the rest from all others, (P,)."""
    pool = np.arange(len(CATEGORIES) * size.pool).reshape(len(CATEGORIES), -1)
    mains = [CATEGORIES.index(str(who.features["main_category"])) for who in pair]
    given: list[int] = []
    for number in mains:
        own = np.setdiff1d(pool[number], given)
        given += rng.choice(own, size.of_main_category, replace=False).tolist()
    others = np.delete(pool, mains, axis=0).ravel()
    return np.array([*given, *rng.choice(others, size.prompts - len(given), replace=False)])
