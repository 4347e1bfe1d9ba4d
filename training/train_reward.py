"""Trains PerFusionRM's plug-ins on groups of pictures, the CLIP backbone frozen (Eq. 7–9).

Example, on the tiny family's backbone (resumes where it stopped):

    python -m training.train_reward --data build/reward_groups --out build/reward

`--data` is a Parquet table of groups (training.data.table), decoded and tokenised once and kept in
build/prepared, or a directory of arrays (training.data.groups). `--out` gets checkpoint.pt, log.jsonl, log.png,
perfusion_rm/ in the family's format, and result.json with MAP and GAUC on the held-out groups.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data.groups import EpochSampler, GroupError, GroupTensors
from training.data.load import reward_groups
from training.family import TINY, FamilyPaths, hush_libraries
from training.loop import Diverged, Stateful, fit
from training.metrics import Ranking, rank_metrics
from training.models.errors import ModelError
from training.models.feature_crossing import drop_features
from training.models.plugin import PluginShape
from training.models.reward_model import VARIANTS, PerFusionRM, RewardConfig, Variant
from training.objectives import reward_cross_entropy
from training.reward_scores import RewardScorer


@dataclass(frozen=True)
class RewardRecipe:
    """How the plug-ins are trained (B.4); units in the comments."""

    variant: Variant = "full"
    steps: int = 1_500  # optimizer steps
    groups_per_batch: int = 128
    lr: float = 1e-3  # of AdamW after warm-up
    warmup_steps: int = 500
    weight_decay: float = 1e-2
    feature_dropout: float = 0.05  # so that "unknown" is a trained value
    embed_dim: int = 8  # width of one feature's embedding
    n_cross_layers: int = 2
    adaptive_hidden: int = 32  # width inside an adaptive network
    max_grad_norm: float = 1.0
    bf16: bool = False  # autocast; scores and losses stay in fp32
    held_out: int = 512  # last groups of the data, never trained on
    seed: int = 0

    def config(self) -> RewardConfig:
        shape = PluginShape(self.embed_dim, self.n_cross_layers, self.adaptive_hidden)
        return RewardConfig(self.variant, shape)


def paper() -> RewardRecipe:
    """Appendix B.4: AdamW, batch 128, lr 1e-3, 500 warm-up steps, weight decay 1e-2."""
    return RewardRecipe()


class Best:
    """The plug-ins that ranked the held-out groups best so far, and when; part of every checkpoint."""

    def __init__(self) -> None:
        self.gauc, self.step = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, gauc: float, step: int, plugins: nn.Module) -> None:
        """Keeps a copy if it is better."""
        if gauc > self.gauc:
            self.gauc, self.step = gauc, step
            self.weights = {name: value.detach().clone() for name, value in plugins.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return vars(self).copy()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


class RewardTraining:
    """The model, its optimizer, and the batches of step n, which depend on the seed and n alone."""

    def __init__(self, recipe: RewardRecipe, groups: GroupTensors, family: FamilyPaths) -> None:
        if groups.images is None:
            raise GroupError("the reward model trains on images; these groups have none")
        self.recipe, self.device = recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.training, self.held_out = groups.split(min(recipe.held_out, len(groups) // 5))
        clip = family.clip()
        torch.manual_seed(recipe.seed)
        self.model = PerFusionRM(clip, groups.schema, recipe.config()).to(self.device)
        self.scorer = RewardScorer(self.model, family.preprocess(clip).to(self.device), self.device, recipe.bf16)
        self.parameters = list(self.model.plugins.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._warmup)
        self.rows = self.training.rows_with(negatives=True)
        self.sampler = EpochSampler(self.rows, recipe.groups_per_batch, recipe.seed)
        self.best = Best()

    def _warmup(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, self.recipe.warmup_steps))

    def step(self, n: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + n)
        rows = self.sampler.batch(n)
        features = torch.from_numpy(self.training.features[rows])
        dropped = drop_features(features, self.training.schema, self.recipe.feature_dropout, generator)
        wordings = torch.randint(self.training.input_ids.shape[1], (len(rows),), generator=generator)
        scores = self.scorer.batch(self.training, rows, wordings.numpy(), dropped)  # (B, K)
        selected = torch.from_numpy(self.training.selected[rows]).to(self.device)
        present = torch.from_numpy(self.training.there[rows]).to(self.device)
        loss = reward_cross_entropy(scores, selected, present).mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        best = scores.masked_fill(~present, -torch.inf).argmax(1, keepdim=True)
        hit = selected.gather(1, best).float().mean()  # the best-scored one was selected
        return {"loss": loss.item(), "top_1": hit.item(), "grad_norm": norm.item()}

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        return {
            "plugins": self.model.plugins,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "best": self.best,
        }

    def evaluate(self, groups: GroupTensors) -> Ranking:
        """MAP and GAUC with everybody's own features."""
        return rank_metrics(self.scorer.all(groups), np.asarray(groups.selected), groups.there)

    def measure(self, n: int) -> Mapping[str, float]:
        """On the held-out groups every 100 steps, and keeps the best plug-ins by it."""
        if (n + 1) % 100 and n + 1 != self.recipe.steps:
            return {}
        ranking = self.evaluate(self.held_out)
        self.best.offer(ranking.gauc, n + 1, self.model.plugins)
        return {"held_out_map": ranking.map, "held_out_gauc": ranking.gauc}


def train(recipe: RewardRecipe, groups: GroupTensors, family: FamilyPaths, out: Path) -> Ranking:
    """Trains (or resumes), saves the plug-ins that ranked the held-out groups best, and returns that ranking.

    Because they were chosen by it, that ranking flatters: training.evaluate measures on groups of its own.
    """
    run = RewardTraining(recipe, groups, family)
    dropped = len(run.training) - len(run.rows)
    print(f"{len(run.rows)} groups to train on, {dropped} of one class dropped, {len(run.held_out)} held out")
    fit(out, recipe.steps, run.step, run.state(), on_log=run.measure)
    run.model.plugins.load_state_dict(run.best.weights)
    run.model.save(out / "perfusion_rm")
    ranking = run.evaluate(run.held_out)
    result = {"recipe": asdict(recipe), "best_step": run.best.step, "held_out": asdict(ranking)}
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return ranking


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups, or arrays with images")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept; the same again resumes")
    parser.add_argument("--weights", type=Path, default=TINY, help="family with reward/ (default: %(default)s)")
    parser.add_argument("--variant", choices=VARIANTS, help="which towers get a plug-in (default: full)")
    for name, kind in (("steps", int), ("lr", float), ("seed", int), ("groups-per-batch", int), ("held-out", int)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the recipe's")
    parser.add_argument("--bf16", action="store_true", default=None, help="bfloat16 autocast")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    hush_libraries()
    names = ("variant", "steps", "lr", "seed", "groups_per_batch", "held_out", "bf16")
    changed = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    try:
        family = FamilyPaths.under(arguments.weights)
        groups = reward_groups(arguments.data, family)
        ranking = train(replace(paper(), **changed), groups, family, arguments.out)
    except (ModelError, Diverged) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    print(f"held out: MAP {ranking.map:.4f}, GAUC {ranking.gauc:.4f} over {ranking.groups} groups")
    return 0


if __name__ == "__main__":
    sys.exit(main())
