"""Training reward models: a taste that only the user's features reveal is learnt, resumption is exact."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.pretraining.train_blip import build as build_blip
from training.common.errors import WeightsError
from training.common.loop import ResumeError, fit
from training.common.workers import Workers
from training.data.groups import GroupError, GroupTensors
from training.models.family import FamilyPaths
from training.models.reward_model import PerFusionRM
from training.reward.models import Starts
from training.reward.recipes import MODELS, Model, RewardRecipe, tiny
from training.reward.scores import RewardScorer
from training.reward.training import Best, RewardTraining, prompt_counts, train

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


def run(recipe: RewardRecipe, groups: GroupTensors, family: FamilyPaths, out: Path) -> RewardScorer:
    clip = family.clip()
    return train(recipe, groups, Starts(clip), family.preprocess(clip), out)


def training(recipe: RewardRecipe, groups: GroupTensors, family: FamilyPaths) -> RewardTraining:
    clip = family.clip()
    return RewardTraining(recipe, groups, Starts(clip), family.preprocess(clip), Workers())


def read_log(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_learns_what_only_the_features_reveal(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=60, feature_dropout=0.0)
    run(recipe, groups, family, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["held_out"]["gauc"] > 0.9
    assert result["training_groups"] == 64
    loaded = PerFusionRM.load(tmp_path / "perfusion_rm", family.clip(), groups.schema)
    assert loaded.config == recipe.config()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"log.jsonl", "log.png", "result.json", "checkpoint.pt", "tensorboard"} <= names
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("model", ["perfusion_rm", "aesthetics"])  # the second with dropout
def test_an_interrupted_training_ends_in_the_same_weights(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, model: Model
) -> None:
    recipe = replace(RECIPE, model=model, decay=True)
    whole = run(recipe, groups, family, tmp_path / "whole").model
    first = training(recipe, groups, family)

    def step(n: int) -> dict[str, float]:
        if n == 3:
            raise KeyboardInterrupt
        return first.step(n)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "halves", recipe.steps, step, first.state(), save_every_s=0.0, made_with=first.made_with)
    halves = run(recipe, groups, family, tmp_path / "halves").model.state_dict()
    assert all(torch.equal(value, halves[name]) for name, value in whole.state_dict().items())


def test_a_batch_in_parts_takes_the_same_step(family: FamilyPaths, groups: GroupTensors) -> None:
    whole = training(RECIPE, groups, family)
    parts = training(replace(RECIPE, accumulate=3), groups, family)
    told = [(whole.step(n), parts.step(n)) for n in range(2)]
    for one, other in told:
        assert one == pytest.approx(other, rel=1e-4)
    for name, value in whole.parameters.items():
        torch.testing.assert_close(value, parts.parameters[name], rtol=1e-3, atol=1e-5)


def test_pickscore_counts_a_prompt_once_however_often_it_was_asked(family: FamilyPaths, groups: GroupTensors) -> None:
    """A prompt of sixty groups weighs as much in a batch as one of a single group, as num_example_per_prompt does."""
    ids = groups.input_ids.copy()
    ids[:60] = ids[0]
    often = replace(groups, input_ids=ids)
    assert sorted(prompt_counts(ids[:, 0])) == [1] * 20 + [60] * 60
    pickscore, hpsv1 = (training(replace(RECIPE, model=model), often, family) for model in ("pickscore", "hpsv1"))
    trained_on = len(pickscore.training)
    of_many = (ids[:trained_on, 0] == ids[0, 0]).all(1)
    assert pickscore.weights[of_many].sum() == pytest.approx(1) and (pickscore.weights[~of_many] == 1).all()
    assert (hpsv1.weights == 1).all()
    rows = pickscore.sampler.batch(0)
    scores = pickscore.scorer.batch(often, rows, np.zeros(len(rows), int), torch.zeros(len(rows), 4, dtype=torch.long))
    assert 0 < of_many[rows].sum() < len(rows)
    loss = pickscore.objective(scores, torch.tensor(often.selected[rows]), torch.tensor(often.there[rows]))
    weights = torch.tensor(pickscore.weights[rows])
    pickscore.training.input_ids[:, 1] = pickscore.training.input_ids[:, 0]  # one wording: nothing is drawn
    assert pickscore.step(0)["loss"] == pytest.approx(((loss * weights).sum() / weights.sum()).item(), rel=1e-4)


@pytest.mark.slow
def test_a_pick_counts_as_often_as_the_groups_say(family: FamilyPaths, groups: GroupTensors) -> None:
    """Both pictures of each group are picked, and the second counts more: the target leans to it."""
    both = replace(groups, images=np.repeat(groups.images, 2, 1)[:, :3])
    both = replace(both, selected=np.tile([True, True, False], (len(both), 1)))
    counts = np.tile(np.array([1, 5, 1], np.float32), (len(both), 1))
    recipe, losses = replace(RECIPE, feature_dropout=0.0), dict[str, float]()
    for name, of in {"alike": both, "ones": replace(both, counts=np.ones_like(counts))}.items():
        losses[name] = training(recipe, of, family).step(0)["loss"]
    assert losses["alike"] == losses["ones"]
    counted = training(recipe, replace(both, counts=counts), family)
    rows = np.arange(4)
    np.testing.assert_array_equal(counted.training.chosen_of(rows), np.tile([1, 5, 0], (4, 1)))
    before, _ = counted.evaluate()
    scores = torch.tensor(counted.scorer.all(counted.held_out)).log_softmax(1)
    assert before == pytest.approx(-(scores[:, 0] + 5 * scores[:, 1]).mean().item() / 6, rel=1e-4)
    with pytest.raises(GroupError, match="pickscore has no place"):
        training(replace(recipe, model="pickscore"), replace(both, counts=counts), family)


def test_two_processes_give_what_one_gives(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    groups.save(tmp_path / "groups")
    options = ["--steps", "3", "--groups-per-batch", "8", "--held-out", "16", "--lr", "1e-3"]
    command = ["-m", "training.reward.train", "--data", tmp_path / "groups", "--weights", family.pipeline.parent]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    together = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for out, launcher in (("one", []), ("two", together)):
        whole = [sys.executable, *launcher, *command, "--out", tmp_path / out, *options]
        subprocess.run(whole, check=True, env=environment, timeout=240)
    logs = [read_log(tmp_path / out / "log.jsonl") for out in ("one", "two")]
    for one, two in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    one, two = (
        PerFusionRM.load(tmp_path / out / "perfusion_rm", family.clip()).plugins.state_dict() for out in ("one", "two")
    )
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-2, atol=1e-4)  # Adam divides tiny sums


def test_only_plugins_are_in_the_optimizer(family: FamilyPaths, groups: GroupTensors) -> None:
    run = training(RECIPE, groups, family)
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in run.model.plugins.parameters()}
    before = {name: p.clone() for name, p in run.model.clip.named_parameters()}
    run.step(0)
    assert all(torch.equal(p, before[name]) for name, p in run.model.clip.named_parameters())


def test_groups_without_images_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    bare = GroupTensors(groups.schema, groups.features, groups.selected, groups.input_ids)
    with pytest.raises(GroupError, match="these groups have none"):
        training(RECIPE, bare, family)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_what_it_should_and_scores(family: FamilyPaths, groups: GroupTensors, model: Model) -> None:
    clip, tokenizer = family.clip(), family.reward_tokenizer()
    pictures = np.asarray(groups.images).repeat(2, 2).repeat(2, 3)[:, :, :64, :64]  # of the tiny BLIP's size
    large = replace(groups, images=pictures) if model == "imagereward" else groups
    blip = build_blip(tokenizer)
    preprocess = family.preprocess(clip)
    preprocess.size_px = 64 if model == "imagereward" else preprocess.size_px
    recipe = replace(tiny(model), steps=2, groups_per_batch=4, held_out=16, unlocked_vision=1, unlocked_text=1)
    made = RewardTraining(recipe, large, Starts(clip, blip), preprocess, Workers())
    frozen = {name: p.clone() for name, p in made.model.named_parameters() if name not in made.parameters}
    before = {name: p.clone() for name, p in made.parameters.items()}
    if before:
        made.step(0), made.step(1), made.step(2)
    assert all(torch.equal(p, frozen[n]) for n, p in made.model.named_parameters() if n in frozen)
    assert all(
        not torch.equal(p, before[n]) for n, p in made.parameters.items() if not n.endswith("bias")
    )  # some cancel
    assert any("logit_scale" in name for name in frozen) or model == "imagereward"  # nobody trains the scale
    scores = made.scorer.all(large.rows(slice(0, 5)))
    assert scores.shape == (5, 2) and np.isfinite(scores).all()


def test_imagereward_without_a_start_is_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(WeightsError, match="starts from a BLIP"):
        training(replace(RECIPE, model="imagereward"), groups, family)


def test_a_batch_smaller_than_its_parts_is_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="8 groups a batch cannot be divided into 9 parts"):
        training(replace(RECIPE, accumulate=9), groups, family)


def test_the_best_parameters_are_kept_over_a_resumption() -> None:
    layer = torch.nn.Linear(2, 2)
    best = Best()
    best.offer(1.3, 100, dict(layer.named_parameters()))
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    best.offer(1.4, 200, dict(layer.named_parameters()))
    resumed = Best()
    resumed.load_state_dict(best.state_dict())
    assert (resumed.loss, resumed.step) == (1.3, 100)
    assert torch.equal(resumed.weights["weight"], kept)


def test_another_recipe_or_backbone_does_not_resume(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    run(RECIPE, groups, family, tmp_path)
    with pytest.raises(ResumeError, match=r"lr was 0\.003 and is 0\.001"):
        run(replace(RECIPE, lr=1e-3), groups, family, tmp_path)
    clip = family.clip()
    with torch.no_grad():
        clip.logit_scale.add_(1.0)
    with pytest.raises(ResumeError, match="backbone was"):
        train(RECIPE, groups, Starts(clip), family.preprocess(clip), tmp_path)
    with pytest.raises(ResumeError, match="groups was"):
        run(RECIPE, groups.rows(slice(0, 70)), family, tmp_path)


@pytest.mark.parametrize(("model", "learns"), [("pickscore", True), ("hpsv2", True), ("imagereward", False)])
def test_ties_teach_where_the_loss_knows_them(
    family: FamilyPaths, groups: GroupTensors, model: Model, learns: bool
) -> None:
    tied = replace(groups, selected=np.ones_like(groups.selected))
    blip, clip = build_blip(family.reward_tokenizer()), family.clip()
    preprocess = family.preprocess(clip)
    preprocess.size_px = 64 if model == "imagereward" else preprocess.size_px  # of the tiny BLIP
    recipe = replace(tiny(model), groups_per_batch=4)
    make = lambda: RewardTraining(recipe, tied, Starts(clip, blip), preprocess, Workers())  # noqa: E731
    if not learns:
        with pytest.raises(GroupError, match="no group has"):
            make()
        return
    made = make()
    assert len(made.rows) == len(made.training)
    assert made.step(0)["grad_norm"] > 0


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("asked", "held"), [(None, "the device's"), (True, torch.bfloat16), (False, torch.float32)])
def test_the_frozen_backbone_is_in_bfloat16_where_the_device_computes_it_or_the_recipe_says_so(
    groups: GroupTensors,
    family: FamilyPaths,
    native: bool,
    asked: bool | None,
    held: torch.dtype | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Workers, "computes_bfloat16", native)
    wanted = (torch.bfloat16 if native else torch.float32) if asked is None else held
    made = training(replace(RECIPE, bf16=asked), groups, family)
    assert next(made.scorer.model.clip.parameters()).dtype == wanted
    assert all(parameter.dtype == torch.float32 for parameter in made.parameters.values())
