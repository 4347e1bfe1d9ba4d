"""Judges generated pictures: the recogniser finds their attributes, and the market's truth gives their utility.

Knows pictures, prompts and merchants; does not know generators.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.demo.playing import Pictures
from lab.market.attributes import Garment
from lab.market.merchants import Merchant
from lab.market.prompts import parse
from lab.market.rounds import choose_one
from lab.market.taste import utility
from lab.recogniser.recogniser import Recogniser, prompt_accuracy


@dataclass(frozen=True)
class Judge:
    """One prompt's judge."""

    recogniser: Recogniser
    asked: dict[str, str]

    @classmethod
    def load(cls, weights: Path, prompt: str) -> "Judge":
        asked = parse(prompt)
        if len(asked) != len(prompt.split(",")):
            raise ValueError(f"the market understands only {sorted(asked.values())} of {prompt!r}")
        return cls(Recogniser.load(weights), asked)

    def read(self, pictures: Pictures) -> list[Garment]:
        return self.recogniser.read(pictures)

    def prompt_accuracy(self, pictures: Pictures) -> float:
        """Share of the prompted attributes that are present, over all pictures."""
        return prompt_accuracy(self.asked, self.read(pictures))

    def utility(self, merchant: Merchant, pictures: Pictures) -> float:
        """Mean true utility of the pictures to this merchant."""
        return float(self._utilities(merchant, pictures).mean())

    def pick(self, merchant: Merchant, pictures: Pictures, rng: np.random.Generator) -> int:
        """The picture of this group that the merchant picks by the true utility."""
        return choose_one(self._utilities(merchant, pictures), rng)

    def _utilities(self, merchant: Merchant, pictures: Pictures) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        return np.array([utility(merchant, garment, self.asked) for garment in self.read(pictures)])
