"""The training of a generator on groups of cached latents, stage by stage: the U-Net, without the merchant, or the
adapter, with the merchant.

`python -m training.generator.train` is the command, and says what is logged. Knows groups, recipes, policies and
objectives; no command line, no tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from contract.feature_schema import FeatureSchema
from training.common.errors import Diverged
from training.common.loop import LOG_EVERY, Stateful, fit, warmup_cosine, warmup_only
from training.common.storage import check_origin, fingerprint, read_config, write_origin
from training.common.workers import Workers
from training.data.groups import GroupError, GroupTensors
from training.data.table import check_schema
from training.generator import reward_gradient
from training.generator.batches import GeneratorBatches, Plan, check_latents
from training.generator.recipes import GeneratorRecipe
from training.generator.reward_gradient import PictureReward, losses_by_reward
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
from training.models.distilled import check_undistilled
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import AdaptedUNet, Policy, TunedUNet


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
        self.made_with = recipe.made_with() | {"groups": groups.fingerprint()} | from_weights
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
        self.reward = PictureReward.of(family, self.device) if recipe.objective == "reward" else None
        self.measured = MEASURES if self.reward is None else reward_gradient.MEASURES  # of a step's log line
        if self.reward is not None:
            self.made_with |= {"reward": fingerprint(self.reward.model.plugins)}

    def _schedule(self) -> LambdaLR:
        warmup = max(1, self.recipe.warmup_steps)
        if self.recipe.decay:
            return warmup_cosine(self.optimizer, warmup, self.recipe.steps)
        return warmup_only(self.optimizer, warmup)

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step; every worker draws the whole plan and computes its share, part by part."""
        plan = self.batches.plan(n)
        self.optimizer.zero_grad()
        sums = torch.zeros(len(self.measured), 2, dtype=torch.float64, device=self.device)
        for part in np.array_split(self.workers.share(np.arange(len(plan))), self.recipe.accumulate):
            if len(part):
                sums += self._backward(plan, part)
        self.workers.add_up_gradients(self.network.parameters())
        self.workers.add_up([sums])
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return means(sums, self.measured) | {"grad_norm": norm.item()}

    def _backward(self, plan: Plan, part: np.ndarray) -> Tensor:
        """Adds this part's gradient of the mean over the plan; what it measured, (len(measured), 2) as `measures`."""
        batch = self.batches.batch(plan, part)
        if self.reward is None:
            errors = self.errors(self.policy, batch, with_reference=self.recipe.needs_reference)
            losses = losses_of(self.recipe, errors, batch)
            measured = measures(losses, errors, batch)
        else:
            ids = self.batches.groups.input_ids[plan.rows[part], plan.wordings[part]]
            ids = torch.from_numpy(ids).to(self.device)
            losses, measured = losses_by_reward(
                self.recipe, self.policy, self.reward, batch, ids, self.alphas_bar, self.batches.no_text
            )
        (losses.sum() / len(plan)).backward()
        return measured

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
        WeightsError: the U-Net is distilled: its noise is not that of pictures.
    """
    check_undistilled(unet or family.pipeline / "unet")
    training = Training(recipe, groups, family, load_unet(unet) if unet else family.unet(), start, workers)
    training.out = out
    if training.workers.is_first:
        left_out = len(training.batches.groups) - len(training.batches.rows)
        print(f"{out.name}: {len(training.batches.rows)} groups to train on, {left_out} without a usable selection")
    how = {"on_log": training.measure, "workers": training.workers, "made_with": training.made_with}
    fit(out, recipe.steps, training.step, training.state(), **how)
    kept = out / recipe.trains
    if training.workers.is_first:
        training.kept.save(out)
        write_origin(kept, training.kept.origin | family.generator_origin())
    training.workers.wait()
    return kept


def check_starts(unet: Path, start: Path | None, data: Path, family: FamilyPaths) -> None:
    """Refuses a U-Net or an adapter to go on from that does not belong to the data or the family.

    Raises:
        FeatureError: the adapter was trained with another feature schema; names the first feature that differs.
        WeightsError: one of them is missing, or was trained with another text encoder, tokenizer or VAE; the U-Net is
            distilled; or the noise schedule is not supported.
    """
    family.noise_scheduler()
    check_undistilled(unet)
    origin = family.generator_origin()
    for given in (unet, *([start] if start else [])):
        read_config(given)
        check_origin(given, origin)
    if start is not None:
        config = read_config(start)
        if "schema" in config:  # the adapter's own loading says what else it lacks
            check_schema(data, FeatureSchema.from_json(config["schema"]), str(start))


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
