"""Batches: which images a stage sees, what each step draws, and groups that cannot be trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.common.errors import TopologyError
from training.data.groups import GroupError, GroupTensors
from training.generator.batches import GeneratorBatches, check_latents
from training.generator.recipes import GeneratorRecipe
from training.models.family import FamilyPaths

RECIPE = GeneratorRecipe("group", steps=6, lr=1e-3, groups_per_batch=4)
CPU = torch.device("cpu")


def test_sft_sees_picked_images_only_and_the_user(family: FamilyPaths, groups: GroupTensors) -> None:
    recipe = replace(RECIPE, objective="sft", feature_dropout=0.0)
    batches = GeneratorBatches(groups, family, recipe, CPU)
    batch = batches.batch(batches.plan(0), np.arange(4))
    assert batch.selected.shape == (4, 1) and batch.selected.all()
    bright = batch.z_0.mean((1, 2, 3, 4)) > 0
    assert torch.equal(bright, batch.features[:, 0] == 2)


def test_dpo_sees_a_picked_image_beside_another(family: FamilyPaths, groups: GroupTensors) -> None:
    batches = GeneratorBatches(groups, family, replace(RECIPE, objective="dpo"), CPU)
    batch = batches.batch(batches.plan(0), np.arange(4))
    assert batch.selected.tolist() == [[True, False]] * 4 and batch.others.tolist() == [[False, True]] * 4


def test_every_noise_level_of_a_group_is_another_draw(family: FamilyPaths, groups: GroupTensors) -> None:
    batches = GeneratorBatches(groups, family, replace(RECIPE, noise_levels=3), CPU)
    plan = batches.plan(0)
    assert len(plan) == 12 and (plan.rows.reshape(4, 3) == plan.rows[::3, None]).all() and len(set(plan.rows)) == 4
    batch = batches.batch(plan, np.arange(3))
    assert torch.equal(batch.z_0[0], batch.z_0[2]) and not torch.equal(batch.eps[0], batch.eps[2])
    assert len(set(plan.t.tolist())) > 4


def test_a_batch_depends_on_its_step_alone(family: FamilyPaths, groups: GroupTensors) -> None:
    first, second = (GeneratorBatches(groups, family, RECIPE, CPU) for _ in range(2))
    second.batch(second.plan(0), np.arange(4))
    a, b = (batches.batch(batches.plan(3), np.arange(4)) for batches in (first, second))
    assert torch.equal(a.eps, b.eps) and torch.equal(a.z_0, b.z_0) and torch.equal(a.text, b.text)
    assert not torch.equal(a.eps, first.plan(4).eps)


def test_parts_of_a_plan_are_the_whole_in_parts(family: FamilyPaths, groups: GroupTensors) -> None:
    batches = GeneratorBatches(groups, family, replace(RECIPE, prompt_dropout=0.5), CPU)
    plan = batches.plan(1)
    whole, last = batches.batch(plan, np.arange(4)), batches.batch(plan, np.array([3]))
    for name in ("z_0", "text", "features", "selected", "others", "t", "eps"):
        assert torch.equal(getattr(whole, name)[3:], getattr(last, name))


def test_latents_that_are_not_finite_are_refused_by_their_group(family: FamilyPaths, groups: GroupTensors) -> None:
    assert groups.latents is not None
    groups.latents[7, 1, 0, 0, 0] = np.nan
    with pytest.raises(GroupError, match="latents of group 7 hold NaN"):
        GeneratorBatches(groups, family, RECIPE, CPU)
    groups.latents[9] = np.inf
    named = replace(groups, group_ids=np.array([f"g{n}" for n in range(len(groups))]))
    with pytest.raises(GroupError, match="latents of group g7 and of 1 more hold NaN"):
        GeneratorBatches(named, family, RECIPE, CPU)


def test_groups_without_latents_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="these groups have none"):
        GeneratorBatches(replace(groups, latents=None), family, RECIPE, CPU)


def test_tokens_of_another_text_encoder_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    known = family.text_encoder().config.vocab_size
    groups.input_ids[3, 1, 5] = known
    with pytest.raises(GroupError, match=f"to {known}, but the text encoder knows {known} tokens"):
        GeneratorBatches(groups, family, RECIPE, CPU)


def test_a_batch_of_everything_a_thousand_times_is_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="a batch of 100000000000 groups"):
        GeneratorBatches(groups, family, replace(RECIPE, groups_per_batch=100_000_000_000), CPU)


def test_latents_of_another_size_than_the_unets_are_refused(unet, groups: GroupTensors) -> None:
    check_latents(groups, unet)
    small = replace(groups, latents=np.asarray(groups.latents)[..., :4, :4])
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        check_latents(small, unet)
