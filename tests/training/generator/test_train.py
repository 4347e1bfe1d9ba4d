"""Training a generator: exact arithmetic, exact resumption, and a preference that is learnt."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lab.pretraining.random_family import make_loud
from training.common.errors import TopologyError
from training.common.loop import Diverged, ResumeError, fit
from training.common.noise import add_noise
from training.common.objectives import eps_mse
from training.data.groups import GroupError, GroupTensors
from training.generator import train_spo
from training.generator.batches import GeneratorBatches
from training.generator.recipes import STAGES, GeneratorRecipe, Stage, paper, tiny
from training.generator.step import Batch, losses_of, noise_errors
from training.generator.train import Training, main, strangers, train_stage
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import AdaptedUNet, Policy, TunedUNet

RECIPE = GeneratorRecipe("group", steps=6, lr=1e-3, groups_per_batch=4, warmup_steps=1, held_out=4, sheet_every=0)


@pytest.fixture
def groups(schema) -> GroupTensors:
    """Style decides: minimalists pick dark latents, luxury picks bright ones."""
    rng = np.random.default_rng(0)
    n, k = 24, 3
    features = np.stack([rng.integers(1, 3, n), rng.integers(0, 4, n), rng.integers(0, 4, n), rng.integers(0, 5, n)])
    latents = rng.normal(size=(n, k, 4, 8, 8)) * 0.1
    brightness = np.linspace(-1, 1, k)[None, :, None, None, None]
    selected = np.zeros((n, k), bool)
    selected[np.arange(n), np.where(features[0] == 1, 0, k - 1)] = True
    ids = rng.integers(0, 250, (n, 2, 77))
    return GroupTensors(schema, features.T.copy(), selected, ids, latents=(latents + brightness).astype(np.float16))


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(3)
    selected = torch.tensor([[True, False, False], [False, True, True]])
    users = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])
    z_0, text, eps = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 77, 12), torch.randn(2, 4, 8, 8)
    return Batch(z_0, text, users, selected, ~selected, torch.tensor([10, 700]), eps)


def begin(recipe: GeneratorRecipe, groups: GroupTensors, family: FamilyPaths, start: Path | None = None) -> Training:
    return Training(recipe, groups, family, family.unet(), start)


def test_errors_are_those_of_the_whole_unet_with_and_without_residuals(unet, schema, batch) -> None:
    network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
    alphas_bar = torch.linspace(0.999, 0.01, 1000)
    errors = noise_errors(AdaptedUNet(unet, network), batch, alphas_bar)
    for g in range(2):
        for k in range(3):
            t, eps = batch.t[g : g + 1], batch.eps[g : g + 1]
            z_t = add_noise(batch.z_0[g, k : k + 1], eps, alphas_bar[t])
            text = batch.text[g : g + 1]
            added = network(z_t, t, text, batch.features[g : g + 1])
            personal = unet(
                z_t, t, text, down_block_additional_residuals=added.skips, mid_block_additional_residual=added.middle
            )
            torch.testing.assert_close(errors.policy[g, k], eps_mse(eps, personal.sample)[0])
            torch.testing.assert_close(errors.reference[g, k], eps_mse(eps, unet(z_t, t, text).sample)[0])
    assert errors.policy.requires_grad and not errors.reference.requires_grad


def test_a_tuned_unet_starts_as_its_reference_and_leaves_it_alone(unet, batch) -> None:
    policy = TunedUNet(unet)
    alphas_bar = torch.linspace(0.999, 0.01, 1000)
    errors = noise_errors(policy, batch, alphas_bar)
    assert torch.equal(errors.policy, errors.reference)
    errors.policy.sum().backward()
    with torch.no_grad():
        for parameter in policy.trained.parameters():
            parameter -= 0.01 * parameter.grad
    later = noise_errors(policy, batch, alphas_bar)
    assert torch.equal(later.reference, errors.reference) and not torch.equal(later.policy, errors.policy)
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_the_group_objective_of_pairs_is_diffusion_dpo(unet, schema, batch) -> None:
    """K = 2: the same loss and the same gradient of every parameter, to 1e-6."""
    pairs = replace(batch, z_0=batch.z_0[:, :2], selected=batch.selected[:, :2], others=batch.others[:, :2])
    found = []
    for objective in ("group", "dpo"):
        torch.manual_seed(0)
        network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
        errors = noise_errors(AdaptedUNet(unet, network), pairs, torch.linspace(0.999, 0.01, 1000))
        loss = losses_of(replace(RECIPE, objective=objective), errors, pairs).mean()
        loss.backward()
        found.append((loss, [p.grad for p in network.parameters()]))
    (group, of_group), (dpo, of_dpo) = found
    assert abs(group.item() - dpo.item()) < 1e-6 and group.item() != pytest.approx(math.log(2), abs=1e-3)
    for one, other in zip(of_group, of_dpo, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trains", ["adapter", "unet"])
def test_checkpointed_gradients_are_the_same(unet, schema, batch, trains: str) -> None:
    def gradients(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)
        policy: Policy = AdaptedUNet(unet, network) if trains == "adapter" else TunedUNet(unet)
        if checkpointed:
            policy.checkpoint_gradients()
        noise_errors(policy, batch, torch.linspace(0.999, 0.01, 1000)).policy.sum().backward()
        return [p.grad for p in policy.trained.parameters() if p.grad is not None]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, again)


def test_the_first_loss_is_the_log_of_the_group_size(family: FamilyPaths, groups: GroupTensors) -> None:
    row = begin(RECIPE, groups, family).step(0)
    assert row["loss"] == pytest.approx(math.log(3), rel=1e-5)
    assert row["winner"] == pytest.approx(row["reference"]) and row["accuracy"] == 0.5
    assert row["grad_norm"] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_what_it_should(family: FamilyPaths, groups: GroupTensors, stage: Stage) -> None:
    recipe = replace(tiny(stage), groups_per_batch=4, warmup_steps=1, sheet_every=0)
    run = begin(recipe, groups, family)
    before = {name: p.clone() for name, p in run.policy.named_parameters()}
    row = run.step(0)
    moved = {name.split(".")[0] for name, p in run.policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == ({"unet"} if stage in ("unet_sft", "dpo", "unet_group") else {"network"})
    assert math.isfinite(row["loss"]) and ("reference" in row) == (recipe.objective in ("dpo", "group"))
    assert paper(stage).trains == recipe.trains and paper(stage).objective == recipe.objective


def test_parts_of_a_batch_add_up_to_the_batch(family: FamilyPaths, groups: GroupTensors) -> None:
    whole, parts = (begin(replace(RECIPE, accumulate=n), groups, family) for n in (1, 3))
    first, second = whole.step(0), parts.step(0)
    assert second == pytest.approx(first, rel=1e-5)


def test_two_processes_give_what_one_gives(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    groups.save(tmp_path / "groups")
    options = ["--steps", "2", "--groups-per-batch", "4", "--stages", "dpo", "group", "--recipe", "tiny"]
    command = ["-m", "training.generator.train", "--data", tmp_path / "groups", "--weights", family.pipeline.parent]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    together = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for out, launcher in (("one", []), ("two", together)):
        whole = [sys.executable, *launcher, *command, "--out", tmp_path / out, *options, "--sheet-every", "0"]
        subprocess.run(whole, check=True, env=environment, timeout=240)
    for stage in ("dpo", "group"):
        logs = [(tmp_path / out / stage / "log.jsonl").read_text().splitlines() for out in ("one", "two")]
        one, two = ([json.loads(line)["loss"] for line in log] for log in logs)
        assert one == pytest.approx(two, rel=1e-5)
    assert not load_unet(tmp_path / "two" / "dpo" / "unet").training
    PersonalisedAdaptiveNetwork.load(tmp_path / "two" / "group" / "adapter", family.unet())


@pytest.mark.parametrize("trains", ["adapter", "unet"])
def test_an_interrupted_training_ends_in_the_same_weights(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, trains: str
) -> None:
    recipe = replace(RECIPE, trains=trains)
    whole, halves = begin(recipe, groups, family), begin(recipe, groups, family)
    fit(tmp_path / "whole", recipe.steps, whole.step, whole.state())
    interrupted(halves, tmp_path / "halves", at=3)
    resumed = begin(recipe, groups, family)
    fit(tmp_path / "halves", recipe.steps, resumed.step, resumed.state())
    kept = resumed.kept.trained.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in whole.kept.trained.state_dict().items())


def interrupted(run: Training, out: Path, at: int) -> None:
    """Run the stage until somebody stops it."""

    def step(n: int) -> dict[str, float]:
        if n == at:
            raise KeyboardInterrupt
        return run.step(n)

    with pytest.raises(KeyboardInterrupt):
        fit(out, RECIPE.steps, step, run.state(), save_every_s=0.0)


def test_another_recipe_or_unet_does_not_resume(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    train_stage(replace(RECIPE, steps=1), groups, family, tmp_path)
    with pytest.raises(ResumeError, match="kappa"):
        train_stage(replace(RECIPE, steps=1, kappa=3.0), groups, family, tmp_path)
    tuned = TunedUNet(family.unet())
    torch.nn.init.ones_(tuned.trained.conv_in.bias)
    other = tuned.save(tmp_path / "other")
    with pytest.raises(ResumeError, match="unet"):
        train_stage(replace(RECIPE, steps=1), groups, family, tmp_path, unet=other)


def test_a_sheet_shows_the_reference_and_each_user(family: FamilyPaths, groups: GroupTensors, tmp_path: Path) -> None:
    train_stage(replace(RECIPE, steps=1, sheet_every=1), groups, family, tmp_path)
    with Image.open(tmp_path / "sheet-00001.png") as sheet:
        assert sheet.size == (5 * 16, 4 * 16)  # four prompts; the reference and four users of 16 × 16 pixels


def test_sft_then_group_learns_whom_to_please(
    family: FamilyPaths, groups: GroupTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"lr": 3e-3, "ema": 0.0, "feature_dropout": 0.0}
    start = train_stage(replace(RECIPE, objective="sft", **quick), groups, family, tmp_path / "sft")
    run = begin(replace(RECIPE, steps=40, kappa=50.0, **quick), groups, family, start)
    again = run.batches.plan(0)
    monkeypatch.setattr(run.batches, "plan", lambda _: again)  # a U-Net of random weights generalises to nothing
    rows = [run.step(n) for n in range(run.recipe.steps)]
    assert rows[-1]["loss"] < 0.5 * math.log(3) and rows[-1]["accuracy"] > 0.9


def test_sft_sees_picked_images_only_and_the_user(family: FamilyPaths, groups: GroupTensors) -> None:
    recipe = replace(RECIPE, objective="sft", feature_dropout=0.0)
    batches = GeneratorBatches(groups, family, recipe, torch.device("cpu"))
    batch = batches.batch(batches.plan(0), np.arange(4))
    assert batch.selected.shape == (4, 1) and batch.selected.all()
    bright = batch.z_0.mean((1, 2, 3, 4)) > 0
    assert torch.equal(bright, batch.features[:, 0] == 2)


def test_a_stranger_is_the_next_user_who_differs() -> None:
    ada, ben, cleo = [1, 2], [3, 0], [1, 0]
    found = strangers(torch.tensor([ada, ada, ben, cleo, ada]))
    assert found is not None and found.tolist() == [ben, ben, cleo, ada, ben]
    assert strangers(torch.tensor([ada, ada])) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--accumulate 0", "accumulate is 0, at least 1"),
        ("--steps 0", "steps is 0, at least 1"),
        ("--seed -1", "seed is -1, at least 0"),
        ("--seed 99999999999999999999", "seed is 99999999999999999999, at most 2147483647"),
        ("--lr nan", "lr is nan, a positive number"),
        ("--stages sft sft", "each stage once; got sft sft"),
        ("--objective listwise", "invalid choice: 'listwise'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_read(
    arguments: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_generator", "--data", "absent", "--out", "out", *arguments.split()])
    try:
        code = main()
    except SystemExit as refused:  # the parser's
        code = refused.code
    assert code in (1, 2)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("program", [main, train_spo.main])
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    program: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["train", "--data", "absent", "--out", str(tmp_path / "file" / "run")])
    assert program() == 1
    assert "file/run cannot be made: Not a directory" in capsys.readouterr().err


def test_the_exact_likelihood_trains_like_the_group_objective(unet, schema, batch) -> None:
    """With one picked image both are the same function; with several the exact one is larger or equal."""
    errors = noise_errors(
        AdaptedUNet(unet, make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)),
        batch,
        torch.linspace(0.999, 0.01, 1000),
    )
    group, exact = (losses_of(replace(RECIPE, objective=o), errors, batch) for o in ("group", "set_plackett_luce"))
    torch.testing.assert_close(group[0], exact[0])
    assert exact.dtype == group.dtype and not torch.isclose(group[1], exact[1])


def test_dpo_sees_a_picked_image_beside_another(family: FamilyPaths, groups: GroupTensors) -> None:
    batches = GeneratorBatches(groups, family, replace(RECIPE, objective="dpo"), torch.device("cpu"))
    batch = batches.batch(batches.plan(0), np.arange(4))
    assert batch.selected.tolist() == [[True, False]] * 4 and batch.others.tolist() == [[False, True]] * 4


def test_every_noise_level_of_a_group_is_another_draw(family: FamilyPaths, groups: GroupTensors) -> None:
    batches = GeneratorBatches(groups, family, replace(RECIPE, noise_levels=3), torch.device("cpu"))
    plan = batches.plan(0)
    assert len(plan) == 12 and (plan.rows.reshape(4, 3) == plan.rows[::3, None]).all() and len(set(plan.rows)) == 4
    batch = batches.batch(plan, np.arange(3))
    assert torch.equal(batch.z_0[0], batch.z_0[2]) and not torch.equal(batch.eps[0], batch.eps[2])
    assert len(set(plan.t.tolist())) > 4


def test_a_batch_depends_on_its_step_alone(family: FamilyPaths, groups: GroupTensors) -> None:
    first, second = (GeneratorBatches(groups, family, RECIPE, torch.device("cpu")) for _ in range(2))
    second.batch(second.plan(0), np.arange(4))
    a, b = (batches.batch(batches.plan(3), np.arange(4)) for batches in (first, second))
    assert torch.equal(a.eps, b.eps) and torch.equal(a.z_0, b.z_0) and torch.equal(a.text, b.text)
    assert not torch.equal(a.eps, first.plan(4).eps)


def test_winners_that_get_much_worse_stop_the_training(family: FamilyPaths, groups: GroupTensors) -> None:
    assert begin(RECIPE, groups, family).measure(RECIPE.steps - 1)["held_out_accuracy"] == 0.5
    with pytest.raises(Diverged, match="error on winners"):
        begin(replace(RECIPE, divergence=0.5), groups, family).measure(RECIPE.steps - 1)


def test_latents_that_are_not_finite_are_refused_by_their_group(family: FamilyPaths, groups: GroupTensors) -> None:
    assert groups.latents is not None
    groups.latents[7, 1, 0, 0, 0] = np.nan
    with pytest.raises(GroupError, match="latents of group 7 hold NaN"):
        begin(RECIPE, groups, family)
    groups.latents[9] = np.inf
    named = replace(groups, group_ids=np.array([f"g{n}" for n in range(len(groups))]))
    with pytest.raises(GroupError, match="latents of group g7 and of 1 more hold NaN"):
        begin(RECIPE, named, family)


def test_groups_that_nothing_could_be_measured_on_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="4 groups are too few"):
        begin(RECIPE, groups.rows(slice(0, 4)), family)
    groups.selected[-4:] = False
    with pytest.raises(GroupError, match="none of the last 4 groups, which are held out"):
        begin(RECIPE, groups, family)


def test_tokens_of_another_text_encoder_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    known = family.text_encoder().config.vocab_size
    groups.input_ids[3, 1, 5] = known
    with pytest.raises(GroupError, match=f"to {known}, but the text encoder knows {known} tokens"):
        begin(RECIPE, groups, family)


def test_a_batch_of_everything_a_thousand_times_is_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    with pytest.raises(GroupError, match="a batch of 100000000000 groups"):
        begin(replace(RECIPE, groups_per_batch=100_000_000_000), groups, family)


def test_latents_of_another_size_are_refused(family: FamilyPaths, groups: GroupTensors) -> None:
    small = replace(groups, latents=np.asarray(groups.latents)[..., :4, :4])
    with pytest.raises(TopologyError, match="4×8×8, those of the groups 4×4×4"):
        begin(RECIPE, small, family)
