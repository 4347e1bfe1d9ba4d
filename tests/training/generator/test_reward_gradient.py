"""The reward's gradient: nothing changes before training, the reward rises with it, and the leash holds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from contract.wishes import wishes
from training.data.groups import GroupError, GroupTensors
from training.generator.batches import GeneratorBatches
from training.generator.recipes import GeneratorRecipe, tiny
from training.generator.reward_gradient import MEASURES, PictureReward
from training.generator.training import Training
from training.models.family import FamilyPaths
from training.reward.scores import RewardScorer

RECIPE = replace(tiny("reward"), groups_per_batch=4, held_out=4, warmup_steps=1, sheet_every=0, lr=3e-3, leash=0.0)


def begin(recipe: GeneratorRecipe, groups: GroupTensors, family: FamilyPaths) -> Training:
    return Training(recipe, groups, family, family.unet())


def repeated(training: Training, steps: int) -> list[dict[str, float]]:
    """Steps on one and the same batch."""
    return [training.step(0) for _ in range(steps)]


def test_a_silent_adapter_gains_nothing_and_costs_nothing(family: FamilyPaths, groups: GroupTensors) -> None:
    row = begin(RECIPE, groups, family).step(0)
    assert set(MEASURES) < set(row)
    assert all(row[name] == pytest.approx(0, abs=1e-4) for name in MEASURES) and row["grad_norm"] > 0


def test_the_reward_of_a_batch_rises_and_the_leash_holds_it(family: FamilyPaths, groups: GroupTensors) -> None:
    free = repeated(begin(RECIPE, groups, family), 4)[-1]
    held = repeated(begin(replace(RECIPE, leash=1e4), groups, family), 4)[-1]
    assert free["gain"] > 0.01 and free["distance"] > 0
    assert held["distance"] < free["distance"] / 10


def test_lost_agreement_with_the_prompts_has_a_price(family: FamilyPaths, groups: GroupTensors) -> None:
    def last(price: float) -> dict[str, float]:
        training = begin(replace(RECIPE, agreement=price), groups, family)
        real = training.reward
        assert real is not None

        def against_the_prompt(*given: Any) -> list[torch.Tensor]:
            _, plain = real(*given)
            return [-plain, plain]

        training.reward = against_the_prompt  # type: ignore[assignment]
        return repeated(training, 4)[-1]

    free, dear = last(0.0), last(100.0)
    assert free["lost_agreement"] > 0.01 and dear["lost_agreement"] < free["lost_agreement"] / 2


def test_the_scores_are_those_of_the_decoded_pictures(family: FamilyPaths, groups: GroupTensors) -> None:
    reward, scorer = PictureReward.of(family, torch.device("cpu")), RewardScorer.of(family)
    rng = torch.Generator().manual_seed(0)
    z_0 = torch.randn((3, 4, 8, 8), generator=rng) * 0.5
    with torch.no_grad():
        drawn = reward.vae.decode(z_0 / reward.vae.config.scaling_factor).sample.clamp(-1, 1)
        ids, features = torch.from_numpy(groups.input_ids[:3, 0]), torch.from_numpy(groups.features[:3])
        own, plain = reward(z_0, ids, [features, None])
        pictures = ((drawn + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        pixels = scorer.preprocess(pictures).unsqueeze(1)
        expected = [scorer.model(pixels, ids, of)[:, 0] for of in (features, None)]
    for found, wanted in zip((own, plain), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.05)  # pixels are rounded there
    assert not torch.allclose(own, plain)


def test_a_gradient_reaches_the_latents(family: FamilyPaths, groups: GroupTensors) -> None:
    reward = PictureReward.of(family, torch.device("cpu"))
    z_0 = torch.zeros((1, 4, 8, 8), requires_grad=True)
    ids, features = torch.from_numpy(groups.input_ids[:1, 0]), torch.from_numpy(groups.features[:1])
    [own] = reward(z_0, ids, [features])
    own.sum().backward()
    assert z_0.grad is not None and z_0.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in reward.model.parameters())


def test_prompts_are_read_with_the_wishes_of_the_merchant_who_is_asked_for(
    family: FamilyPaths, groups: GroupTensors
) -> None:
    written = replace(groups, prompts=np.array(["dress,v-neck"] * len(groups)))
    plain, wished = (
        GeneratorBatches(written, family, replace(RECIPE, wished=share, feature_dropout=0.0), torch.device("cpu"))
        for share in (0.0, 1.0)
    )
    plan, every = wished.plan(3), np.arange(4)
    assert wished.wishing is not None
    phrases = {phrase for kind in family.vocabulary().kinds for phrase in kind.phrases}
    for prompt, features in zip(plan.wished, plan.features, strict=True):
        assert prompt is not None and prompt.startswith("dress,v-neck,")
        assert set(prompt.split(",")) <= phrases
        favours = wished.wishing.preferences.of(features.numpy()[None])[0]
        strongest = wishes(family.vocabulary(), "dress,v-neck", favours)
        assert set(prompt.split(",")[2:]) & set(strongest)
    without, read = plain.batch(plain.plan(3), every), wished.batch(plan, every)
    assert torch.equal(without.z_0, read.z_0) and torch.equal(without.eps, read.eps)  # nothing else changes
    states = wished._states([prompt or "" for prompt in plan.wished])
    torch.testing.assert_close(read.text, without.text + wished.wishing.scale * (states - without.text))


def test_wishes_need_the_prompts_as_written(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="as they were written"):
        begin(replace(RECIPE, wished=0.5), groups, family)


def test_guidance_changes_what_the_reward_sees(family: FamilyPaths, groups: GroupTensors) -> None:
    plain, guided = (repeated(begin(replace(RECIPE, guidance=g), groups, family), 3) for g in (1.0, 4.0))
    assert guided[0]["gain"] == pytest.approx(0, abs=1e-4) and guided[-1]["gain"] > plain[-1]["gain"]


def test_with_a_contrast_what_pleases_everybody_gains_nothing(family: FamilyPaths, groups: GroupTensors) -> None:
    same = replace(groups, features=np.repeat(groups.features[:1], len(groups), 0))
    row = repeated(begin(replace(RECIPE, contrast=1.0, feature_dropout=0.0), same, family), 2)[-1]
    assert row["gain"] == pytest.approx(0, abs=1e-5)
    free, told_apart = (repeated(begin(replace(RECIPE, contrast=k), groups, family), 4)[-1] for k in (0.0, 1.0))
    assert free["gain"] > 0.01 and told_apart["gain"] > 0.01
