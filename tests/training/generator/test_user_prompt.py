"""User prompts: the keyword model's favourites, in the text encoder's language, for profiles that nobody has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.feature_schema import FeatureSchema
from lab.market.prompts import vocabulary
from lab.pretraining.train_tokenizer import encode
from training.common.loop import ResumeError
from training.generator.user_prompt import UserPromptRecipe, UserPromptTraining, Wishing, recombined, train_user_prompt
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.user_prompt import FIRST, TEXT_LENGTH
from training.wishes.preferences import KeywordModel, n_entries

RECIPE = UserPromptRecipe(steps=100, profiles=128, prompts=32, any_texts=4, warmup_steps=5)
VOCABULARY = vocabulary()
WISHED = VOCABULARY.kinds[1:]
PROMPTS = ("dress,red", "red,bell sleeves,dress", "dress")


@pytest.fixture
def profiles(schema: FeatureSchema) -> np.ndarray:
    rng = np.random.default_rng(0)
    slots = [rng.integers(1, f.n_rows, (12, f.n_slots)) for f in schema.features]
    return np.concatenate(slots, axis=1)


@pytest.fixture
def keywords(schema: FeatureSchema, profiles: np.ndarray) -> KeywordModel:
    n_rows = tuple(f.n_rows for f in schema.features for _ in range(f.n_slots))
    shape = (len(VOCABULARY.phrases), n_entries(n_rows))
    return KeywordModel(torch.randn(shape, generator=torch.Generator().manual_seed(0)), n_rows, VOCABULARY)


@pytest.fixture
def wishing(keywords: KeywordModel, schema: FeatureSchema, profiles: np.ndarray) -> Wishing:
    return Wishing(keywords, schema, profiles, PROMPTS)


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
    favours = training._favours(wishing.profiles[:1])
    ids, end = torch.from_numpy(encode(training.tokenizer, ["dress"])), training.tokenizer.eos_token_id
    none = torch.zeros(1, len(WISHED), dtype=torch.bool)
    assert torch.equal(training._wished(ids, favours, none), training._states(ids))
    places = np.cumsum([TEXT_LENGTH - sum(training.user_prompt.widths), *training.user_prompt.widths])
    for n, kind in enumerate(WISHED):
        only = none.clone()
        only[0, n] = True
        best = max(kind.phrases, key=lambda phrase: _favour(favours, phrase))
        typed = training.tokenizer("," + best, add_special_tokens=False)["input_ids"]
        found = training._wished(ids, favours, only)[0, places[n] : places[n] + len(typed)]
        # as if it had been typed behind the prompt, where its kind's phrases have their place
        with_it, at = ids.clone(), torch.arange(TEXT_LENGTH)[None].clone()
        with_it[0, FIRST : FIRST + len(typed)] = torch.tensor(typed)
        at[0, FIRST : FIRST + len(typed)] += int(places[n] - places[0])
        states = training.text_encoder(input_ids=with_it, position_ids=at).last_hidden_state
        assert int((ids[0] != end).sum()) == FIRST
        torch.testing.assert_close(found, states[0, FIRST : FIRST + len(typed)], atol=2e-3, rtol=2e-3, msg=kind.name)


def _favour(favours: torch.Tensor, phrase: str) -> float:
    return float(favours[0, [text for kind in WISHED for text in kind.phrases].index(phrase)])


def test_prompts_come_long_short_and_whole(wishing: Wishing, family: FamilyPaths) -> None:
    recipe = replace(RECIPE, joined=0.4, shortened=0.3)
    training = UserPromptTraining(recipe, wishing, family, family.pipeline / "unet")
    rng = np.random.default_rng(0)
    prompts = [training._prompt(rng) for _ in range(200)]
    phrases = [set(prompt.split(",")) for prompt in prompts]
    assert any(len(prompt.split(",")) > 5 for prompt in prompts) and "" in prompts
    assert any("dress" not in found for found in phrases) and {"dress", "red"} in phrases
    texts = training._any_text(rng)
    assert not np.isin(texts[:, 1].numpy(), training.tokenizer.all_special_ids).any()


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
    with pytest.raises(ResumeError, match="prompts was"):
        train_user_prompt(RECIPE, replace(wishing, prompts=["dress"]), family, tmp_path, unet)
