"""Who plays: merchants of the market with hidden tastes, some of whom told the platform little or the wrong thing.

Knows the market; neither the platform nor what was served.
"""

from dataclasses import dataclass

import numpy as np

from lab.market.attributes import complete
from lab.market.merchants import Merchant, Profile, merchant
from lab.market.prompts import ask_for, write

FIRST_MERCHANT = 200_000  # of the market; no training and no table of the laboratory has them
INCOMPLETE_SHARE, WRONG_SHARE = 0.10, 0.05  # of merchants: half of the profile is missing; it is somebody else's
MAIN_CATEGORY_SHARE = 0.6  # of prompts, as in the market's tables


@dataclass(frozen=True, eq=False)
class Player:
    """A merchant, what they told the platform, and the turn in which they joined."""

    merchant: Merchant
    profile: Profile
    joined: int

    @property
    def user_id(self) -> str:
        return self.merchant.user_id


def players(numbers: range, joined: int) -> list[Player]:
    """The merchants of these places, counted from FIRST_MERCHANT; the same numbers give the same players."""
    return [_player(number, joined) for number in numbers]


def _player(number: int, joined: int) -> Player:
    who, rng = merchant(FIRST_MERCHANT + number), np.random.default_rng((41, number))
    told, profile = rng.random(), dict(who.features)
    if told < INCOMPLETE_SHARE:
        profile = {name: profile[name] for name in sorted(profile) if rng.random() < 0.5}
    elif told < INCOMPLETE_SHARE + WRONG_SHARE:
        profile = dict(merchant(FIRST_MERCHANT + number + 100_000).features)
    return Player(who, profile, joined)


def ask(player: Player, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A prompt, and the values that it asks for."""
    features = player.merchant.features
    wanted = {"category": str(features["main_category"])} if rng.random() < MAIN_CATEGORY_SHARE else {}
    asked = ask_for(complete(wanted, rng), rng)
    return write(asked, rng), asked
