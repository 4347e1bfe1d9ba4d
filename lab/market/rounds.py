"""Rounds of the market: a prompt, a group of K candidates, and the merchant's picks.

Picks follow Plackett–Luce on the true utility: repeated draws without replacement with
probability proportional to exp(utility), which adding Gumbel noise and sorting does exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.market.attributes import BY_KIND, Garment, applies, complete
from lab.market.merchants import Merchant
from lab.market.prompts import ask_for, write
from lab.market.taste import score, taste_weights

PICKS_SHARE = (0.02, 0.90, 0.08)  # how often a merchant picks none, one, two of a group
MISS_SHARE = 0.10  # how often a candidate misses one of the asked-for values


@dataclass(frozen=True, eq=False)
class Round:
    """One round: garments[k] was shown as candidate k, and selected[k] says whether picked."""

    merchant: Merchant
    asked: dict[str, str]
    prompt: str
    garments: list[Garment]
    utilities: np.ndarray  # float64 (K,)
    selected: np.ndarray  # bool (K,)


def play(merchant: Merchant, candidates: int, rng: np.random.Generator) -> Round:
    """One round of this merchant; three in five prompts are for their main category."""
    wanted = {"category": str(merchant.features["main_category"])} if rng.random() < 0.6 else {}
    asked = ask_for(complete(wanted, rng), rng)
    garments = [_candidate(asked, rng) for _ in range(candidates)]
    weights = taste_weights(merchant)
    utilities = np.array([score(weights, garment, asked) for garment in garments])
    selected = choose(utilities, rng)
    return Round(merchant, asked, write(asked, rng), garments, utilities, selected)


def choose(utilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which candidates are picked, bool (K,), given their true utilities (K,)."""
    picks = rng.choice(len(PICKS_SHARE), p=PICKS_SHARE)
    order = np.argsort(-(utilities + rng.gumbel(size=len(utilities))))
    selected = np.zeros(len(utilities), dtype=bool)
    selected[order[: min(picks, len(utilities) - 1)]] = True
    return selected


def choose_one(utilities: np.ndarray, rng: np.random.Generator) -> int:
    """The one candidate that is picked."""
    return int(np.argmax(utilities + rng.gumbel(size=len(utilities))))


def _candidate(asked: dict[str, str], rng: np.random.Generator) -> Garment:
    garment = complete(asked, rng)
    missable: Sequence[str] = [kind for kind in asked if kind not in ("category", "sleeve")]
    if missable and rng.random() < MISS_SHARE:
        kind = str(rng.choice(missable))
        garment[kind] = str(rng.choice(BY_KIND[kind].values))
    return {kind: value for kind, value in garment.items() if kind == "category" or applies(kind, garment)}
