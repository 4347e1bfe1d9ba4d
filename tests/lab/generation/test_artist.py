"""Drawing for measurements: a picture is its own prompt's, user's and noise's; PMG's weights; the judges."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contract.feature_schema import FeatureSchema
from lab.generation import pmg
from lab.generation.artist import Artist, Drawing, choice_noise_of
from lab.generation.splits import Rounds, Size
from lab.generation.worth import READS_USER, REWARDS, SCORES, Judges
from lab.market.attributes import complete
from lab.market.merchants import merchant
from lab.market.prompts import vocabulary
from lab.market.rounds import Round
from lab.pretraining.random_family import make_loud
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.policies import AdaptedUNet, TunedUNet
from training.reward.baselines.aesthetics import Aesthetics
from training.reward.baselines.pickscore import PickScore
from training.reward.models import save
from training.wishes.preferences import wish

HOW = Drawing(steps=3, batch_size=2)
PROMPTS = ("dress,red", "red,bell sleeves", "dress")


@pytest.fixture
def personal(family: FamilyPaths) -> Artist:
    unet = family.unet()
    torch.manual_seed(0)
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, family.schema()), 0.3)
    return Artist(AdaptedUNet(unet, network.eval().requires_grad_(False)), family, HOW)


def test_a_picture_does_not_know_its_neighbours(personal: Artist) -> None:
    text, noise = personal.states(PROMPTS), torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    users = torch.tensor([[1, 1, 0, 2], [2, 3, 0, 1], [1, 1, 0, 2]])
    together = personal.draw(text, users, noise, "all")
    assert together.shape == (3, 2, 16, 16, 3) and together.dtype == np.uint8
    for n in range(3):
        alone = personal.draw(text[n : n + 1], users[n : n + 1], noise[n : n + 1], "one")
        assert np.abs(alone[0].astype(int) - together[n]).max() <= 1  # sums in another order


def test_a_choice_follows_from_the_starting_noise() -> None:
    start = torch.randn(500, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise = choice_noise_of(start, 43)
    assert noise.shape == (500, 43) and torch.equal(choice_noise_of(start[7:8], 43)[0], noise[7])
    assert abs(noise.mean() - np.euler_gamma) < 0.03 and abs(noise.std() - np.pi / 6**0.5) < 0.03


def test_every_step_is_told_the_choices_of_its_pictures(personal: Artist, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[torch.Tensor] = []
    draw = personal.policy.forward
    monkeypatch.setattr(
        personal.policy, "forward", lambda *args, **how: told.append(how["choice_noise"]) or draw(*args, **how)
    )
    start = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    personal.draw(personal.states(PROMPTS[:1]), torch.tensor([[1, 1, 0, 2]]), start, "one")
    expected = choice_noise_of(start[0], 1)
    assert len(told) == HOW.steps and all(torch.equal(noise, expected) for noise in told)


def test_only_an_adapter_draws_for_its_user(personal: Artist, family: FamilyPaths) -> None:
    unet = family.unet()
    plain = Artist(TunedUNet(unet, unet), family, HOW)
    for artist, same in ((personal, False), (plain, True)):
        text, noise = artist.states(PROMPTS[:1]), torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        one, other = (artist.draw(text, torch.tensor([user]), noise, "one") for user in ([1, 1, 0, 2], [2, 3, 0, 4]))
        assert np.array_equal(one, other) is same


class Told:
    """A CLIP that agrees with pictures as told, by weight: d_keywords rises, d_prompt falls."""

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
    pictures = pmg.draw_with_keywords(artist, Told(family, cosines), rounds, noise)
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
    assert wish(vocabulary(), "dress,long sleeves", favours, 1, pmg.LEAST) == ["bell sleeves"]
    assert (pmg.discriminative([]) == 0).all()


@pytest.fixture
def judges(family: FamilyPaths, tmp_path: Path) -> Judges:
    clip = family.clip()
    save(Aesthetics(clip), tmp_path / "aesthetic")
    save(PickScore(family.clip()), tmp_path / "pickscore")
    paths = (tmp_path / "aesthetic", tmp_path / "pickscore", family.perfusion_rm)
    trained = dict(zip(REWARDS, paths, strict=True))
    return Judges.of(family, Path("training/weights/tiny/recogniser"), clip, trained)


def test_judges_are_read_from_the_preference_tables_folders(judges: Judges) -> None:
    assert list(REWARDS) == ["aesthetic", "pickscore", "perfusion_rm"]
    pictures = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    cosine = judges.clip_score(pictures, np.zeros((3, 77), np.int64)) / 100
    assert (np.abs(cosine) <= 1).all()
    scores = judges.scorers["pickscore"].model.clip.logit_scale.exp().item()
    assert scores > 0 and set(judges.scorers) == set(SCORES)


def test_what_everybody_is_shown_is_scored_as_if_drawn_for_each(judges: Judges, schema: FeatureSchema) -> None:
    rng = np.random.default_rng(0)
    given, prompts = np.array([[0, 2], [2, 1], [0, 1]]), ("dress", "dress,red", "bell sleeves")
    features = np.stack(
        [[rng.integers(1, f.n_rows) for f in schema.features for _ in range(f.n_slots)]] * 2 + [[0] * 4]
    )
    rounds = SimpleNamespace(given=given, prompts=prompts, features=features)
    pool = rng.integers(0, 255, (3, 2, 16, 16, 3), dtype=np.uint8)  # (N, K, H, W, 3)
    shared, own = judges.scores(rounds, pool), judges.scores(rounds, pool[given])
    for name in SCORES:
        assert shared[name].shape == (3, 2, 2)
        np.testing.assert_allclose(shared[name], own[name], rtol=1e-4, err_msg=name)
    assert set(judges.scores(rounds, pool, READS_USER)) == {"perfusion_rm"}
    same_prompt = own["perfusion_rm"][0, 0], own["perfusion_rm"][2, 0]  # and pictures, for another merchant
    assert not np.allclose(*same_prompt)
