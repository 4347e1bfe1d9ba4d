"""PMG without a language model: keywords are what picks share, and weigh as CLIP agrees."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from lab.generation import pmg
from lab.generation.artist import Artist, Drawing
from lab.generation.splits import Rounds, Size
from lab.market.attributes import complete
from lab.market.merchants import merchant
from lab.market.prompts import vocabulary
from lab.market.rounds import Round
from training.models.family import FamilyPaths
from training.models.policies import TunedUNet

HOW = Drawing(num_steps=2, batch_size=10)


class Agreeing:
    """A CLIP that agrees with pictures as given, by weight: d_keywords rises, d_prompt falls."""

    def __init__(self, family: FamilyPaths, cosines: Mapping[bool, list[float]]) -> None:
        self.family, self.cosines, self.calls = family, cosines, 0

    def clip_score(self, images: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
        weights = len(pmg.WEIGHTS)
        of_keywords, weight = self.calls < weights, self.calls % weights
        self.calls += 1
        return np.full(len(images), 100 * self.cosines[of_keywords][weight])


@pytest.mark.parametrize(
    ("cosines", "expected"),
    [({True: [0.1, 0.1, 0.1], False: [0.3, 0.2, 0.1]}, 0.0), ({True: [0.1, 0.3, 0.9], False: [0.3, 0.3, 0.2]}, 1.0)],
)
def test_keywords_weigh_as_clip_agrees(
    family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, cosines: Mapping[bool, list[float]], expected: float
) -> None:
    unet = family.unet()
    artist = Artist(TunedUNet(unet, unet), family, HOW)
    rounds = Rounds.of("seen", Size(merchants=2, prompts=5, candidates=2, pool=4))
    drawn: list[torch.Tensor] = []
    real = artist.draw
    monkeypatch.setattr(artist, "draw", lambda text, *rest: drawn.append(text) or real(text, *rest))
    noise = rounds.noise(0, (4, 8, 8), 2)
    pictures = pmg.draw_with_keywords(artist, Agreeing(family, cosines), rounds, noise)
    assert pictures.shape == (2, 5, 2, 16, 16, 3)
    by_weight, last = drawn[:-1], drawn[-1]
    torch.testing.assert_close(last, by_weight[pmg.WEIGHTS.index(expected)])


def test_keywords_are_what_the_picks_of_a_history_share() -> None:
    """Bell sleeves were picked in each of six rounds, and everything else at random."""
    rng = np.random.default_rng(0)
    rounds = []
    for n in range(6):
        garments = [complete({"category": "dress", "sleeve": "long", "sleeve_style": "puff"}, rng) for _ in range(5)]
        garments[n % 5]["sleeve_style"] = "bell"
        selected = np.arange(5) == n % 5
        rounds.append(Round(merchant(1), {"category": "dress"}, "dress", garments, np.zeros(5), selected))
    favours = pmg.discriminative(rounds)
    phrases = vocabulary().phrases
    assert phrases[int(np.argmax(favours))] == ("sleeve_style", "bell sleeves") and favours.max() > 3
    assert favours[phrases.index(("sleeve_style", "straight sleeves"))] == 0  # never shown
    keywords = pmg._keywords(vocabulary(), "dress,long sleeves", favours)
    assert keywords[0] == "bell sleeves" and len(keywords) <= pmg.MOST
    assert (pmg.discriminative([]) == 0).all()


def test_only_clear_favourites_become_keywords() -> None:
    phrases = vocabulary().phrases
    favours = np.full(len(phrases), pmg.LEAST - 0.01)
    assert pmg._keywords(vocabulary(), "dress", favours) == []
    favours[phrases.index(("trim", "sequins"))] = pmg.LEAST
    assert pmg._keywords(vocabulary(), "dress", favours) == ["sequins"]
    assert pmg._keywords(vocabulary(), "dress,bow", favours) == []
    assert len(pmg._keywords(vocabulary(), "dress", np.full(len(phrases), 9.0))) == pmg.MOST
