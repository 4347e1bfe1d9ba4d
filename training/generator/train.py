"""Trains a generator on groups of cached latents: the U-Net, without the merchant, or the adapter, with the merchant.

Example, the paper's PerFusion from the tiny family's pipeline (resumes where it stopped):

    python -m training.generator.train --data build/groups --out build/generator --recipe tiny

The stages run one after the other (training.generator.recipes says what each is): one that trains the U-Net hands it to
those that follow, one that trains the adapter hands on the adapter. `--data` is a Parquet table of groups
(training.data.table), decoded, tokenised and encoded once and kept in build/prepared, or a directory of arrays
(training.data.groups). `--out` gets one folder a stage with checkpoint.pt, log.jsonl, log.png, tensorboard/, sheets of
samples, and unet/ (diffusers) or adapter/ (the family's format). Several processes share the same steps:

    torchrun --nproc-per-node 2 -m training.generator.train --data … --out …

The log's columns: loss, winner, loser (m_θ of selected and other images), reference (m_ref of the selected), accuracy
(share of pairs with d_winner < d_loser), the same on held-out groups as held_out_…, grad_norm; held_out_stranger is
m_θ of held-out winners with another merchant's features: no gap to held_out_winner means that the adapter does not
use the profile.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from contract.errors import InputError
from training.common.loop import LOG_EVERY, Diverged, Stateful, fit, make_run_dir, warmup_cosine, warmup_only
from training.common.objectives import Reduction
from training.common.storage import fingerprint
from training.common.workers import Workers
from training.data.groups import GroupError, GroupTensors
from training.data.load import generator_groups
from training.generator.batches import GeneratorBatches, check_latents
from training.generator.recipes import GROUP_OBJECTIVES, STAGES, GeneratorRecipe, paper, tiny
from training.generator.sheets import sheet
from training.generator.step import (
    MEASURES,
    Batch,
    Errors,
    losses_of,
    means,
    measures,
    noise_errors,
)
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.models.frozen_unet import load_unet
from training.models.policies import AdaptedUNet, Policy, TunedUNet

RECIPES = {"paper": paper, "tiny": tiny}
CHANGES = ("steps", "groups_per_batch", "accumulate", "lr", "kappa", "noise_levels", "seed", "sheet_every")


class Training:
    """One stage on its data: steps, and measurements and sheets on the held-out groups."""

    def __init__(
        self,
        recipe: GeneratorRecipe,
        groups: GroupTensors,
        family: FamilyPaths,
        unet: UNet2DConditionModel,
        start: Path | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.recipe, self.family, self.workers = recipe, family, workers or Workers()
        self.out: Path | None = None  # where sheets are drawn
        self.device = self.workers.device
        check_latents(groups, unet)
        self.policy = _first_policy(recipe, groups, unet.to(self.device), start).to(self.device)
        from_weights = {"unet": fingerprint(unet), "start": fingerprint(self.policy.trained)}
        self.made_with = asdict(recipe) | {"groups": groups.fingerprint()} | from_weights
        if recipe.checkpoint_gradients:
            self.policy.checkpoint_gradients()
        self.network = self.policy.trained
        ema = get_ema_multi_avg_fn(recipe.ema)
        self.average = AveragedModel(self.network, multi_avg_fn=ema) if recipe.ema else None
        self.optimizer = torch.optim.AdamW(_rates(self.policy, recipe), recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = self._schedule()
        training, held_out = _split(groups, recipe)
        self.batches = GeneratorBatches(training, family, recipe, self.device)
        as_measured = replace(recipe, objective="group", prompt_dropout=0.0)
        self.held_out = GeneratorBatches(held_out, family, as_measured, self.device)
        self.alphas_bar = family.noise_scheduler().alphas_cumprod.to(self.device)

    def _schedule(self) -> LambdaLR:
        warmup = max(1, self.recipe.warmup_steps)
        if self.recipe.decay:
            return warmup_cosine(self.optimizer, warmup, self.recipe.steps)
        return warmup_only(self.optimizer, warmup)

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step; every worker draws the whole plan and computes its share, part by part."""
        plan = self.batches.plan(n)
        self.optimizer.zero_grad()
        sums = torch.zeros(len(MEASURES), 2, dtype=torch.float64, device=self.device)
        for part in np.array_split(self.workers.share(np.arange(len(plan))), self.recipe.accumulate):
            if len(part):
                sums += self._backward(self.batches.batch(plan, part), len(plan))
        self.workers.add_up_gradients(self.network.parameters())
        self.workers.add_up([sums])
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return means(sums) | {"grad_norm": norm.item()}

    def _backward(self, batch: Batch, whole: int) -> Tensor:
        """Adds these groups' gradient of the mean over the `whole` batch; returns what they measured."""
        errors = self.errors(self.policy, batch, with_reference=self.recipe.needs_reference)
        losses = losses_of(self.recipe, errors, batch)
        (losses.sum() / whole).backward()
        return measures(losses, errors, batch)

    def errors(self, policy: Policy, batch: Batch, *, with_reference: bool) -> Errors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            return noise_errors(policy, batch, self.alphas_bar, with_reference=with_reference)

    @torch.no_grad()
    def measure(self, n: int) -> Mapping[str, float]:
        """On the held-out groups every 200 steps (five times in a shorter stage), and a sheet every `sheet_every`.

        Raises:
            Diverged: the winners' error has grown beyond the recipe's limit: the training degrades the U-Net.
        """
        if self.recipe.sheet_every and self._is_due(n, self.recipe.sheet_every):
            self.draw(n + 1)
        if not self._is_due(n, min(200, max(1, self.recipe.steps // 5))):
            return {}
        policy, batches = self.kept, self.held_out.fixed()
        errors = [self.errors(policy, batch, with_reference=True) for batch in batches]
        sums = torch.stack([measures(None, e, b) for e, b in zip(errors, batches, strict=True)])
        row = {f"held_out_{name}": value for name, value in means(sums.sum(0)).items()}
        if isinstance(policy, AdaptedUNet):
            row |= self._with_strangers(policy, batches)
        winner, reference = row["held_out_winner"], row["held_out_reference"]
        if winner > self.recipe.divergence * reference:
            raise Diverged(f"step {n}: error on winners {winner:.3g}, reference {reference:.3g}; lower lr or κ")
        return row

    def _with_strangers(self, policy: Policy, batches: Sequence[Batch]) -> dict[str, float]:
        """The winners' error with another merchant's features; empty if all profiles are alike."""
        others = strangers(torch.cat([batch.features for batch in batches]))
        if others is None:
            return {}
        shown = zip(batches, others.split([len(batch.features) for batch in batches]), strict=True)
        errors = [self.errors(policy, replace(batch, features=who), with_reference=False) for batch, who in shown]
        winners = [e.policy[batch.selected] for e, batch in zip(errors, batches, strict=True)]
        return {"held_out_stranger": torch.cat(winners).mean().item()}

    def _is_due(self, n: int, every: int) -> bool:
        """Whether a multiple of `every` lies in the steps since the last log line, or this is the last step."""
        return (n + 1) // every > max(0, n + 1 - LOG_EVERY) // every or n + 1 == self.recipe.steps

    def draw(self, step: int) -> None:
        """A sheet of samples beside the log."""
        if self.out is not None:
            sheet(self.kept, self.family, self.held_out, self.out / f"sheet-{step:05d}.png")

    @property
    def kept(self) -> Policy:
        """The policy that is measured and saved: the average, if there is one."""
        return self.policy.with_trained(self.network if self.average is None else self.average.module)

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        average = {} if self.average is None else {"average": self.average}
        return {"network": self.network, **average, "optimizer": self.optimizer, "schedule": self.schedule}


def strangers(features: Tensor) -> Tensor | None:
    """For each profile (N, F) the next one that differs: the shuffled-user control. None: all are alike."""
    n = torch.arange(len(features), device=features.device)
    following = (n[:, None] + n) % len(n)  # (N, N) every row from itself on
    differs = (features[following] != features[:, None]).any(-1)  # (N, N)
    return features[following[n, differs.int().argmax(1)]] if differs.any() else None


def train_stage(
    recipe: GeneratorRecipe,
    groups: GroupTensors,
    family: FamilyPaths,
    out: Path,
    *,
    unet: Path | None = None,
    start: Path | None = None,
    workers: Workers | None = None,
) -> Path:
    """Trains (or resumes) one stage; returns the directory of the trained part, out/adapter or out/unet.

    Args:
        unet: a diffusers U-Net directory to train on, or to train; without it, the family's.
        start: an adapter to go on from; without it, one before training.

    Raises:
        ResumeError: `out` holds a stage that was made with another recipe, other data or another start.
        Diverged: a loss is not finite, or the winners' error has grown too much.
    """
    training = Training(recipe, groups, family, load_unet(unet) if unet else family.unet(), start, workers)
    training.out = out
    if training.workers.is_first:
        left_out = len(training.batches.groups) - len(training.batches.rows)
        print(f"{out.name}: {len(training.batches.rows)} groups to train on, {left_out} without a usable selection")
    how = {"on_log": training.measure, "workers": training.workers, "made_with": training.made_with}
    fit(out, recipe.steps, training.step, training.state(), **how)
    kept = training.kept.save(out) if training.workers.is_first else out / recipe.trains
    training.workers.wait()
    return kept


def _split(groups: GroupTensors, recipe: GeneratorRecipe) -> tuple[GroupTensors, GroupTensors]:
    """The training groups, and the last groups, which are held out.

    Raises:
        GroupError: no measurement is possible on the held-out groups.
    """
    n = min(recipe.held_out, len(groups) // 5)
    if not n:
        raise GroupError(f"{len(groups)} groups are too few: a fifth is held out, so 5 are the least")
    training, held_out = groups.split(n)
    if not len(held_out.rows_with(negatives=True)):
        raise GroupError(f"none of the last {n} groups, which are held out, has both a pick and what was passed over")
    return training, held_out


def _first_policy(
    recipe: GeneratorRecipe, groups: GroupTensors, unet: UNet2DConditionModel, start: Path | None
) -> Policy:
    if recipe.trains == "unet":
        return TunedUNet(unet)
    if start is not None:
        return AdaptedUNet(unet, PersonalisedAdaptiveNetwork.load(start, unet, groups.schema))
    torch.manual_seed(recipe.seed)
    shape = (recipe.embed_dim, recipe.n_cross_layers)
    return AdaptedUNet(unet, PersonalisedAdaptiveNetwork.from_unet(unet, groups.schema, *shape))


def _rates(policy: Policy, recipe: GeneratorRecipe) -> list[dict[str, object]]:
    """AdamW's parameter groups; of an adapter: the copy with its zero convolutions, the user's path, the gate.

    While the gate (the input's zero convolution) is almost zero, the layers after it cannot distinguish profiles, and
    so no gradient opens the gate. Hence its learning rate is much higher.
    """
    if isinstance(policy, TunedUNet):
        return [{"params": list(policy.unet.parameters())}]
    network = policy.network
    gate = list(network.input_zero_conv.parameters())
    user = [*network.user_encoder.parameters(), *network.user_map.parameters()]
    return [
        {"params": list(network.copy.parameters())},
        {"params": user, "lr": recipe.lr * recipe.user_lr_factor},
        {"params": gate, "lr": recipe.lr * recipe.gate_lr_factor, "weight_decay": 0.0},
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups, or arrays with latents")
    parser.add_argument("--out", type=Path, required=True, help="where runs are kept; the same again resumes")
    parser.add_argument("--weights", type=Path, default=TINY, help="family with pipeline/ (default: %(default)s)")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=["dpo", "sft", "group"], help="default: %(default)s"
    )
    parser.add_argument(
        "--unet",
        type=Path,
        help="diffusers U-Net directory instead of pipeline/unet (to train) or the backbone (under an adapter)",
    )
    parser.add_argument("--start", type=Path, help="adapter directory to start from instead of silence")
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help="the numbers (default: %(default)s)")
    parser.add_argument(
        "--objective",
        choices=GROUP_OBJECTIVES,
        help="of group and unet_group: Eq. 13/18, or the exact likelihood",
    )
    parser.add_argument("--reduction", choices=get_args(Reduction), help="over a group's positives (default: sum)")
    for name in CHANGES:
        kind = GeneratorRecipe.__dataclass_fields__[name].type
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's, in every stage")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="bfloat16 autocast")
    parser.add_argument("--checkpoint-gradients", action=argparse.BooleanOptionalAction, help="less memory, more time")
    arguments = parser.parse_args()
    if len(set(arguments.stages)) < len(arguments.stages):
        parser.error(f"each stage once; got {' '.join(arguments.stages)}")
    if arguments.start and RECIPES[arguments.recipe](arguments.stages[0]).trains == "unet":
        parser.error(f"--start is an adapter, and the first stage, {arguments.stages[0]}, trains the U-Net below it")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    hush_libraries()
    names = (*CHANGES, "reduction", "bf16", "checkpoint_gradients")
    overrides = {name: getattr(arguments, name) for name in names}
    changed = {name: value for name, value in overrides.items() if value is not None}
    family, workers = FamilyPaths.under(arguments.weights), Workers.from_environment()
    try:
        recipes = {name: replace(RECIPES[arguments.recipe](name), **changed) for name in arguments.stages}
        if arguments.objective:
            of_groups = {name: recipe for name, recipe in recipes.items() if recipe.objective == "group"}
            recipes |= {name: replace(recipe, objective=arguments.objective) for name, recipe in of_groups.items()}
        make_run_dir(arguments.out)
        family.check_pipeline()
        if workers.is_first:
            generator_groups(arguments.data, family)  # prepared once, then found by all
        workers.wait()
        groups = generator_groups(arguments.data, family)
        below = family.backbone_files if recipes[arguments.stages[0]].trains == "adapter" else None
        unet, adapter = arguments.unet or below, arguments.start
        for name, recipe in recipes.items():  # each on the result of those before it
            out = arguments.out / name
            kept = train_stage(recipe, groups, family, out, unet=unet, start=adapter, workers=workers)
            unet, adapter = (kept, None) if recipe.trains == "unet" else (unet, kept)
    except (InputError, Diverged) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    if workers.is_first:
        print("\n".join(f"{what} written to {path}" for what, path in (("U-Net", unet), ("adapter", adapter)) if path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
