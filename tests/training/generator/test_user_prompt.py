"""User prompts: the keyword model's favourites, in the text encoder's language, for profiles that nobody has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.family import FamilyPaths
from training.generator.user_prompt import UserPromptRecipe, UserPromptTraining, Wishing, recombined, train_user_prompt
from training.keywords import VALUES, WISHED_KINDS, KeywordModel, profile_vectors
from training.loop import ResumeError
from training.market.prompts import PHRASE_OF
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.feature_schema import FeatureSchema
from training.models.user_prompt import FIRST, TEXT_LENGTH
from training.pretraining.train_tokenizer import encode

RECIPE = UserPromptRecipe(steps=100, profiles=128, prompts=32, any_texts=4, warmup_steps=5)
PROMPTS = ("dress,red", "red,bell sleeves,dress", "dress")


@pytest.fixture
def profiles(schema: FeatureSchema) -> np.ndarray:
    rng = np.random.default_rng(0)
    slots = [rng.integers(1, f.n_rows, (12, f.n_slots)) for f in schema.features]
    return np.concatenate(slots, axis=1)


@pytest.fixture
def keywords(schema: FeatureSchema, profiles: np.ndarray) -> KeywordModel:
    n_rows = tuple(f.n_rows for f in schema.features for _ in range(f.n_slots))
    width = profile_vectors(profiles, n_rows).shape[1]
    return KeywordModel(torch.randn(len(VALUES), width, generator=torch.Generator().manual_seed(0)), n_rows)


@pytest.fixture
def wishing(keywords: KeywordModel, profiles: np.ndarray) -> Wishing:
    return Wishing(keywords, profiles, PROMPTS)


def test_favourites_are_each_kind_s_best(keywords: KeywordModel, profiles: np.ndarray) -> None:
    favours, found = keywords.favours(profiles), keywords.favourites(profiles)
    assert found.shape == (12, len(WISHED_KINDS))
    for n, kind in enumerate(WISHED_KINDS):
        of_kind = [i for i, value in enumerate(VALUES) if value[0] == kind]
        assert np.array_equal(found[:, n], np.array(of_kind)[favours[:, of_kind].argmax(1)])


def test_recombined_profiles_mix_merchants_and_not_one_feature_s_slots(
    schema: FeatureSchema, profiles: np.ndarray
) -> None:
    found = recombined(profiles, schema, 200, np.random.default_rng(0))
    for at in schema.slices:
        assert {tuple(row) for row in found[:, at]} <= {tuple(row) for row in profiles[:, at]}
    assert len(np.unique(found, axis=0)) > len(profiles)


def test_prompts_come_to_say_what_unseen_profiles_wish(
    wishing: Wishing, family: FamilyPaths, schema: FeatureSchema
) -> None:
    training = UserPromptTraining(RECIPE, wishing, family, family.pipeline / "unet")
    unseen = recombined(wishing.profiles, schema, 300, np.random.default_rng(9))
    prompts = [PROMPTS[n % 3] for n in range(300)]
    before, errors_before = training.measure(unseen, prompts), training.errors(unseen, prompts)
    for n in range(RECIPE.steps):
        training.step(n)
    after, errors = training.measure(unseen, prompts), training.errors(unseen, prompts)
    assert after["text"] < before["text"] / 2 and after["text"] < after["silent"] / 2
    assert all(errors[name] < errors_before[name] / 2 for name in errors)
    assert after["right"] > before["right"] + 0.3
    of_others = training.errors(unseen, prompts, torch.from_numpy(unseen).roll(1, dims=0))
    assert of_others["favours"] > errors["favours"] * 1.5  # it says this user's wishes, not everybody's


@torch.no_grad()
def test_what_is_wished_is_read_as_the_wished_prompt_itself(
    wishing: Wishing, keywords: KeywordModel, family: FamilyPaths
) -> None:
    training = UserPromptTraining(RECIPE, wishing, family, family.pipeline / "unet")
    features = wishing.profiles[:2]
    favours = torch.from_numpy(keywords.favours(features)[:, [kind in WISHED_KINDS for kind, _ in VALUES]]).float()
    ids = torch.from_numpy(encode(training.tokenizer, ["dress", "dress"]))
    none = torch.zeros(2, len(WISHED_KINDS), dtype=torch.bool)
    torch.testing.assert_close(training._wished(ids, favours, none), training._states(ids), atol=1e-3, rtol=1e-3)
    first = none.clone()
    first[:, 0] = True  # one kind is open: its phrase is read as if typed behind the prompt
    best = VALUES[int(keywords.favourites(features)[0, 0])]
    typed = torch.from_numpy(encode(training.tokenizer, ["dress," + PHRASE_OF[best]]))
    length = int((ids[0] != training.tokenizer.eos_token_id).sum())
    n = int((typed[0] != training.tokenizer.eos_token_id).sum()) - length
    wished = training._wished(ids, favours, first)[0]
    at = TEXT_LENGTH - sum(training.user_prompt.widths)
    expected = training._states(typed)[0, length : length + n]
    places = slice(at, at + n)
    assert length == FIRST
    torch.testing.assert_close(wished[places], expected, atol=1e-3, rtol=1e-3)


def test_the_adapter_it_leaves_is_silent_and_reads_its_user(
    wishing: Wishing, family: FamilyPaths, tmp_path: Path
) -> None:
    unet = family.pipeline / "unet"
    kept = train_user_prompt(RECIPE, wishing, family, tmp_path, unet)
    again = train_user_prompt(RECIPE, wishing, family, tmp_path, unet)  # finished: nothing to do
    network = PersonalisedAdaptiveNetwork.load(again, family.unet(), family.schema())
    assert kept == again and network.user_prompt is not None
    z, t, text = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 12)
    one, other = (torch.tensor(wishing.profiles[n : n + 1]) for n in (0, 1))
    assert not network(z, t, text, one).middle.any()
    said = [network.prompt_for(text, user) for user in (one, other)]
    assert not torch.allclose(*said) and not torch.allclose(said[0], text)
    with pytest.raises(ResumeError, match="wishing"):
        train_user_prompt(RECIPE, replace(wishing, prompts=["dress"]), family, tmp_path, unet)
