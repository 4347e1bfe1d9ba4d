"""Training PerFusionRM: a taste that only the user's features reveal is learnt, resumption is exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.groups import GroupError, GroupTensors
from training.family import FamilyPaths
from training.loop import fit
from training.models.reward_model import PerFusionRM
from training.train_reward import Best, RewardRecipe, RewardTraining, train

RECIPE = RewardRecipe(steps=6, groups_per_batch=8, warmup_steps=2, held_out=16, lr=3e-3)


@pytest.fixture
def groups(schema) -> GroupTensors:
    """Style decides: minimalists pick the dark picture, luxury the bright one."""
    rng = np.random.default_rng(0)
    n, k = 80, 2
    features = np.ones((n, 4), np.int64)
    features[:, 0] = rng.integers(1, 3, n)
    order = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)  # (n, k) 0 dark, 1 bright
    noise = rng.integers(0, 40, (n, k, 40, 40, 3))
    images = (noise + 200 * order[:, :, None, None, None]).astype(np.uint8)
    selected = order == (features[:, :1] - 1)
    return GroupTensors(schema, features, selected, rng.integers(0, 250, (n, 2, 77)), images=images)


def test_it_learns_what_only_the_features_reveal(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=60, feature_dropout=0.0)
    ranking = train(recipe, groups, family, tmp_path)
    assert ranking.gauc > 0.9
    loaded = PerFusionRM.load(tmp_path / "perfusion_rm", family.clip(), groups.schema)
    assert loaded.config == recipe.config()
    assert {"log.jsonl", "log.png", "result.json", "checkpoint.pt"} <= {p.name for p in tmp_path.iterdir()}


def test_an_interrupted_training_ends_in_the_same_weights(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path
) -> None:
    train(RECIPE, groups, family, tmp_path / "whole")
    run = RewardTraining(RECIPE, groups, family)

    def step(n: int) -> dict[str, float]:
        if n == 3:
            raise KeyboardInterrupt
        return run.step(n)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "halves", RECIPE.steps, step, run.state(), save_every_s=0.0)
    train(RECIPE, groups, family, tmp_path / "halves")
    whole, halves = (
        PerFusionRM.load(tmp_path / name / "perfusion_rm", family.clip()).plugins.state_dict()
        for name in ("whole", "halves")
    )
    assert all(torch.equal(value, halves[name]) for name, value in whole.items())


def test_only_plugins_are_in_the_optimizer(family: FamilyPaths, groups: GroupTensors) -> None:
    run = RewardTraining(RECIPE, groups, family)
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in run.model.plugins.parameters()}
    before = {name: p.clone() for name, p in run.model.clip.named_parameters()}
    run.step(0)
    assert all(torch.equal(p, before[name]) for name, p in run.model.clip.named_parameters())


def test_groups_without_images_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    bare = GroupTensors(groups.schema, groups.features, groups.selected, groups.input_ids)
    with pytest.raises(GroupError, match="these groups have none"):
        RewardTraining(RECIPE, bare, family)


def test_the_best_plugins_are_kept_over_a_resumption() -> None:
    layer = torch.nn.Linear(2, 2)
    best = Best()
    best.offer(0.7, 100, layer)
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    best.offer(0.6, 200, layer)
    resumed = Best()
    resumed.load_state_dict(best.state_dict())
    assert (resumed.gauc, resumed.step) == (0.7, 100)
    assert torch.equal(resumed.weights["weight"], kept)
