"""Trains the personalised adaptive network on groups of cached latents, the U-Net frozen.

Example, both stages from the tiny family's pipeline (resumes where it stopped):

    python -m training.train_generator --data build/groups --out build/generator

`--data` is a Parquet table of groups (training.data.table), decoded, tokenised and encoded once and
kept in build/prepared, or a directory of arrays (training.data.groups). `--out` gets one folder a stage with
checkpoint.pt, log.jsonl, log.png, and adapter/ in the family's format. The log's columns: loss,
winner, loser (m_θ of selected and other images), reference (m_ref of the selected), accuracy
(share of pairs with d_winner < d_loser), the same on held-out groups as held_out_…, grad_norm;
held_out_stranger is m_θ of held-out winners with somebody else's features: no gap to
held_out_winner means that the adapter does not use its user.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.data.groups import EpochSampler, GroupError, GroupTensors
from training.data.load import generator_groups
from training.data.text_states import TextStates
from training.family import TINY, FamilyPaths, hush_libraries
from training.generator_recipes import RECIPES, GeneratorRecipe
from training.generator_step import Batch, Errors, distillation_errors, noise_errors
from training.loop import Diverged, fit, warmup_cosine
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.errors import ModelError, WeightsError
from training.models.feature_crossing import drop_features
from training.noise import draw_levels
from training.objectives import group_preference, implicit_accuracy, set_plackett_luce


class GeneratorData:
    """Batches of groups with text and noise; the batch of step n depends on the seed and n alone."""

    def __init__(
        self, groups: GroupTensors, family: FamilyPaths, recipe: GeneratorRecipe, device: torch.device
    ) -> None:
        if groups.latents is None:
            raise GroupError("the generator trains on latents; these groups have none")
        self.groups, self.recipe, self.device, self.latents = groups, recipe, device, groups.latents
        self.rows = groups.rows_with(negatives=recipe.objective not in ("sft", "distil"))
        if recipe.objective == "distil" and groups.wished_ids is None:
            raise GroupError("distillation needs wishes (training.keywords); these groups have none")
        self.sampler = EpochSampler(self.rows, recipe.groups_per_batch, recipe.seed)
        self.text = TextStates(family.text_encoder(), groups.input_ids, device)
        blank = family.tokenizer()([""], padding="max_length", max_length=groups.input_ids.shape[2])
        self.no_text = self.text.encode(torch.tensor(blank["input_ids"]))  # (1, 77, D)
        self.alphas_bar = family.noise_scheduler().alphas_cumprod.to(device)

    def batch(self, n: int) -> Batch:
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + n)
        rows = np.repeat(self.sampler.batch(n), recipe.noise_levels)
        features = torch.from_numpy(self.groups.features[rows])
        dropped = drop_features(features, self.groups.schema, recipe.feature_dropout, generator)
        return self.make(rows, dropped, generator, picked_only=recipe.objective in ("sft", "distil"))

    def fixed(self) -> list[Batch]:
        """All usable groups once with fixed noise, in batches: the held-out measurement."""
        generator = torch.Generator().manual_seed(7)
        parts = np.array_split(self.rows, -(-len(self.rows) // 32))
        return [self.make(rows, torch.from_numpy(self.groups.features[rows]), generator) for rows in parts]

    def make(
        self, rows: np.ndarray, features: Tensor, generator: torch.Generator, *, picked_only: bool = False
    ) -> Batch:
        """Latents, text and noise of these groups; only one picked image of each if so asked."""
        z_0, selected = torch.from_numpy(self.latents[rows]).float(), torch.from_numpy(self.groups.selected[rows])
        others = torch.from_numpy(self.groups.there[rows]) & ~selected
        if not z_0.isfinite().all():
            raise GroupError(f"latents of groups {sorted(set(rows.tolist()))[:5]}… hold NaN or infinity")
        if picked_only:
            pick = torch.multinomial(selected.float(), 1, generator=generator)  # (B, 1)
            every = torch.arange(len(rows)).unsqueeze(1)
            z_0, selected, others = z_0[every, pick], selected[every, pick], others[every, pick]
        t = draw_levels(self.recipe.levels, len(rows), generator)
        eps = torch.randn(z_0[:, 0].shape, generator=generator)
        text = self._text(rows, generator)
        batch = Batch(*(x.to(self.device) for x in (z_0, text, features, selected, others, t, eps)))
        if self.recipe.objective != "distil":
            return batch
        assert self.groups.wished_ids is not None  # checked when this object was made
        return replace(batch, wished_text=self.text.encode(torch.tensor(self.groups.wished_ids[rows])))

    def _text(self, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """A random wording of each prompt, or none at all."""
        wordings = torch.randint(self.groups.input_ids.shape[1], (len(rows),), generator=generator)
        dropped = torch.rand(len(rows), 1, 1, generator=generator) < self.recipe.prompt_dropout
        return torch.where(dropped.to(self.device), self.no_text, self.text.of(rows, wordings.numpy()))


def loss_of(recipe: GeneratorRecipe, errors: Errors, batch: Batch) -> Tensor:
    """The objective, averaged over the batch's groups."""
    if errors.reference is None:
        return errors.policy[batch.selected].mean()  # Eq. 1, or its distillation
    d = errors.policy - errors.reference
    if recipe.objective == "group":
        return group_preference(d, batch.selected, recipe.kappa, recipe.reduction, batch.others).mean()  # Eq. 13/18
    return set_plackett_luce(-recipe.kappa * d, batch.selected, batch.others).mean()


def measures(errors: Errors, batch: Batch) -> dict[str, float]:
    """What tells progress from divergence."""
    policy, reference, selected = errors.policy.detach(), errors.reference, batch.selected
    found = {"winner": policy[selected].mean()}
    if reference is not None:
        found["loser"] = policy[batch.others].mean()
        found["reference"] = reference[selected].mean()
        found["accuracy"] = implicit_accuracy(policy - reference, selected, batch.others).nanmean()
    return {name: value.item() for name, value in found.items()}


class Stage:
    """One stage on its data: steps, and measuring on the held-out groups."""

    def __init__(self, recipe: GeneratorRecipe, groups: GroupTensors, family: FamilyPaths, start: Path | None) -> None:
        self.recipe = recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.unet = family.unet().to(self.device)
        self.network = _first_network(recipe, groups, self.unet, start).to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.optimizer = torch.optim.AdamW(_rates(self.network, recipe), recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = warmup_cosine(self.optimizer, recipe.warmup_steps, recipe.steps)
        training, held_out = groups.split(min(recipe.held_out, len(groups) // 5))
        self.data = GeneratorData(training, family, recipe, self.device)
        self.held_out = GeneratorData(held_out, family, replace(recipe, objective="group"), self.device).fixed()

    def errors(self, network: PersonalisedAdaptiveNetwork, batch: Batch, *, with_reference: bool) -> Errors:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            return noise_errors(self.unet, network, batch, self.data.alphas_bar, with_reference=with_reference)

    def step(self, n: int) -> dict[str, float]:
        batch = self.data.batch(n)
        if self.recipe.objective == "distil":
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                policy = distillation_errors(self.unet, self.network, batch, self.data.alphas_bar)
            errors = Errors(policy, None)
        else:
            errors = self.errors(self.network, batch, with_reference=self.recipe.objective != "sft")
        loss = loss_of(self.recipe, errors, batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return {"loss": loss.item(), **measures(errors, batch), "grad_norm": norm.item()}

    @torch.no_grad()
    def measure(self, n: int) -> Mapping[str, float]:
        """On the held-out groups every 200 steps; raises Diverged when the adapter ruins the U-Net."""
        if (n + 1) % 200 and n + 1 != self.recipe.steps:
            return {}
        rows = [measures(self.errors(self.saved, batch, with_reference=True), batch) for batch in self.held_out]
        strangers = [self.errors(self.saved, _as_a_stranger(batch), with_reference=False) for batch in self.held_out]
        row = {f"held_out_{name}": float(np.mean([r[name] for r in rows])) for name in rows[0]}
        errors = [e.policy[b.selected].mean().item() for e, b in zip(strangers, self.held_out, strict=True)]
        row["held_out_stranger"] = float(np.mean(errors))
        winner, reference = row["held_out_winner"], row["held_out_reference"]
        if winner > self.recipe.divergence * reference:
            raise Diverged(f"step {n}: error on winners {winner:.3g}, reference {reference:.3g}; lower lr or κ")
        return row

    @property
    def saved(self) -> PersonalisedAdaptiveNetwork:
        """What is evaluated and saved: the average, if there is one."""
        network: PersonalisedAdaptiveNetwork = self.average.module if self.recipe.ema else self.network
        return network

    def state(self) -> dict[str, object]:
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }


def _as_a_stranger(batch: Batch) -> Batch:
    """The same groups, each with the next one's user: the shuffled-user control."""
    return replace(batch, features=batch.features.roll(1, dims=0))


def train_stage(
    recipe: GeneratorRecipe, groups: GroupTensors, family: FamilyPaths, out: Path, start: Path | None = None
) -> Path:
    """Trains (or resumes) one stage from the adapter in `start`; returns its adapter directory."""
    stage = Stage(recipe, groups, family, start)
    dropped = len(groups) - len(stage.data.rows) - recipe.held_out
    print(f"{out.name}: {len(stage.data.rows)} groups to train on, {max(dropped, 0)} without a usable selection")
    fit(out, recipe.steps, stage.step, stage.state(), on_log=stage.measure)
    stage.saved.save(out / "adapter")
    return out / "adapter"


def _first_network(
    recipe: GeneratorRecipe, groups: GroupTensors, unet: UNet2DConditionModel, start: Path | None
) -> PersonalisedAdaptiveNetwork:
    if start is not None:
        return PersonalisedAdaptiveNetwork.load(start, unet, groups.schema)
    torch.manual_seed(recipe.seed)
    return PersonalisedAdaptiveNetwork.from_unet(unet, groups.schema, recipe.embed_dim, recipe.n_cross_layers)


def _rates(network: PersonalisedAdaptiveNetwork, recipe: GeneratorRecipe) -> list[dict[str, object]]:
    """AdamW's parameter groups: the copy with its zero convolutions, the user encoder and map, the gate between.

    While the gate (the input's zero convolution) is almost shut, nothing downstream can tell users apart, and while
    nothing downstream can, no gradient opens it. So it learns much faster.
    """
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
    parser.add_argument("--stages", nargs="+", choices=RECIPES, default=["sft", "group"], help="default: %(default)s")
    parser.add_argument("--start", type=Path, help="adapter directory to start from instead of silence")
    for name, kind in (("steps", int), ("lr", float), ("kappa", float), ("seed", int), ("noise-levels", int)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the recipe's")
    parser.add_argument("--bf16", action="store_true", default=None, help="bfloat16 autocast")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    hush_libraries()
    overrides = {name: getattr(arguments, name) for name in ("steps", "lr", "kappa", "seed", "noise_levels", "bf16")}
    changed = {name: value for name, value in overrides.items() if value is not None}
    adapter, family = arguments.start, FamilyPaths.under(arguments.weights)
    try:
        groups = generator_groups(arguments.data, family)
        for name in arguments.stages:
            recipe = replace(RECIPES[name](), **changed)
            adapter = train_stage(recipe, groups, family, arguments.out / name, adapter)
    except (ModelError, WeightsError, Diverged) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    print(f"adapter written to {adapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
