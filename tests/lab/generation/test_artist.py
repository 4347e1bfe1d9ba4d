"""Drawing for measurements: a picture is its own prompt's, merchant's and noise's, and so are its wishes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.limits import SAMPLERS as SERVED
from contract.wishes import wishes
from lab.generation.artist import SAMPLERS, Artist, Drawing, choice_noise_of, for_each, for_unknown
from lab.generation.splits import Rounds, Size
from lab.market.merchants import FEATURE_SCHEMA
from lab.market.prompts import vocabulary
from tests.training.loud import make_loud
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.policies import AdaptedUNet, TunedUNet
from training.wishes.preferences import PreferenceWeights, n_entries, rows_of

SIZE = Size(merchants=2, prompts=3, candidates=3, pool=2)
HOW = Drawing(num_steps=2, batch_size=2)
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


def test_only_an_adapter_draws_for_its_user(personal: Artist, family: FamilyPaths) -> None:
    unet = family.unet()
    plain = Artist(TunedUNet(unet, unet), family, HOW)
    for artist, same in ((personal, False), (plain, True)):
        text, noise = artist.states(PROMPTS[:1]), torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        one, other = (artist.draw(text, torch.tensor([user]), noise, "one") for user in ([1, 1, 0, 2], [2, 3, 0, 4]))
        assert np.array_equal(one, other) is same


def test_pictures_are_drawn_by_the_samplers_that_are_served(family: FamilyPaths) -> None:
    assert set(SAMPLERS) == set(SERVED)
    unet = family.unet()
    noise = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = []
    for sampler in SAMPLERS:
        artist = Artist(TunedUNet(unet, unet), family, Drawing(sampler, num_steps=3))
        drawn.append(artist.draw(artist.states(PROMPTS[:1]), torch.zeros(1, 4, dtype=torch.long), noise, sampler))
    assert all(pictures.std() > 0 for pictures in drawn)
    assert not np.array_equal(drawn[0], drawn[1])


@pytest.fixture
def plain(family: FamilyPaths) -> Artist:
    unet = family.unet()
    return Artist(TunedUNet(unet, unet), family, HOW)


@pytest.fixture(scope="module")
def rounds() -> Rounds:
    return Rounds.of("seen", SIZE)


@pytest.fixture(scope="module")
def preferences() -> PreferenceWeights:
    """Of the market's profiles, at random: clear for some phrases and not for others."""
    schema = FEATURE_SCHEMA
    torch.manual_seed(0)
    weights = torch.randn(n_entries(rows_of(schema)), len(vocabulary().phrases)) * 0.05
    return PreferenceWeights(schema, vocabulary(), weights)


def test_the_noise_of_a_candidates_choices_follows_from_its_starting_noise() -> None:
    start = torch.randn(500, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise = np.stack([choice_noise_of(one, 43) for one in start])
    assert noise.shape == (500, 43) and np.array_equal(choice_noise_of(start[7].clone(), 43), noise[7])
    assert len({row.tobytes() for row in noise}) == 500
    assert abs(noise.mean() - np.euler_gamma) < 0.03 and abs(noise.std() - np.pi / 6**0.5) < 0.03  # Gumbel's


def test_every_candidate_is_drawn_with_its_own_wishes(
    plain: Artist, rounds: Rounds, preferences: PreferenceWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    states = plain.states
    monkeypatch.setattr(plain, "states", lambda prompts: read.extend(prompts) or states(prompts))
    noise = rounds.noise(0, plain.latent_shape, 3)
    pictures = for_each(plain, rounds, noise, preferences)
    assert pictures.shape == (2, 3, 3, 16, 16, 3)
    favours, expected, unwished = preferences.of(rounds.features), [], []
    for m, row in enumerate(rounds.given):
        for n in row:
            for start in noise[n]:
                chosen = wishes(vocabulary(), rounds.prompts[n], favours[m], choice_noise_of(start, len(favours[m])))
                expected.append(",".join([rounds.prompts[n], *chosen]))
                unwished.append(rounds.prompts[n])
    assert read == [*unwished, *expected] and len(set(expected)) > len({(m, n) for m in range(2) for n in range(3)})


def test_an_adapter_scale_of_zero_draws_the_prompt_alone(
    plain: Artist, rounds: Rounds, preferences: PreferenceWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = rounds.noise(0, plain.latent_shape, 2)
    monkeypatch.setattr(plain, "how", replace(plain.how, adapter_scale=0.0))
    np.testing.assert_array_equal(for_each(plain, rounds, noise, preferences), for_each(plain, rounds, noise))


def test_the_same_noise_is_the_same_picture_alone_or_in_a_group(
    plain: Artist, rounds: Rounds, preferences: PreferenceWeights
) -> None:
    noise = rounds.noise(0, plain.latent_shape, 3)
    together = for_each(plain, rounds, noise, preferences)
    for k in range(3):
        alone = for_each(plain, rounds, noise[:, k : k + 1], preferences)
        assert np.abs(alone[:, :, 0].astype(int) - together[:, :, k]).max() <= 1  # sums in another order


def test_without_preferences_a_unet_draws_the_same_for_everybody(plain: Artist, rounds: Rounds) -> None:
    noise = rounds.noise(0, plain.latent_shape, 2)
    pictures, pool = for_each(plain, rounds, noise), for_unknown(plain, rounds, noise)
    assert pictures.shape == (2, 3, 2, 16, 16, 3) and pool.shape == (len(rounds.prompts), 2, 16, 16, 3)
    assert np.abs(pictures.astype(int) - pool[rounds.given]).max() <= 1


def test_favours_of_zero_wish_for_nothing(plain: Artist, rounds: Rounds, preferences: PreferenceWeights) -> None:
    noise = rounds.noise(0, plain.latent_shape, 2)
    silent = PreferenceWeights(preferences.schema, preferences.vocabulary)
    drawn = (for_each(plain, rounds, noise, which).astype(int) for which in (silent, None))
    assert np.abs(np.subtract(*drawn)).max() <= 1
