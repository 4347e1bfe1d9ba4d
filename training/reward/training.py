"""The training of reward models: PerFusionRM's plug-ins, the CLIP backbone frozen (Eq. 7–9), an ablation of it, or one
of the six baselines.

`python -m training.reward.train` is the command. Knows groups, models and objectives; no command line, no tables.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from training.common.loop import Stateful, fit, warmup_cosine, warmup_only
from training.common.metrics import Ranking, rank_metrics
from training.common.objectives import reward_cross_entropy
from training.common.reports import write_report
from training.common.workers import Workers
from training.data.groups import EpochSampler, GroupError, GroupTensors
from training.models.feature_crossing import drop_features
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM
from training.reward.baselines.image_reward import ImageReward
from training.reward.models import OBJECTIVES, Starts, build, save, trained
from training.reward.recipes import RewardRecipe
from training.reward.scores import RewardScorer


class Best:
    """The trained parameters of the lowest held-out loss so far, and their step; part of every checkpoint.

    The loss decides, not GAUC, which is too noisy on a thousand groups.
    """

    def __init__(self) -> None:
        self.loss, self.step = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, loss: float, step: int, parameters: Mapping[str, Tensor]) -> None:
        """Keeps a copy if the loss is lower."""
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: value.detach().clone() for name, value in parameters.items()}

    def state_dict(self) -> dict[str, Any]:
        return vars(self).copy()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


class Trained:
    """A model's trained part for a checkpoint, without the frozen backbone."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters

    def state_dict(self) -> dict[str, Any]:
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(state_dict[name])


def prompt_counts(input_ids: np.ndarray) -> np.ndarray:
    """For each of these prompts (N, 77), how many equal it, (N,): PickScore's num_example_per_prompt."""
    _, same, counts = np.unique(input_ids, axis=0, return_inverse=True, return_counts=True)
    found: np.ndarray = counts[same.reshape(-1)]
    return found


class RewardTraining:
    """The model, its optimizer, and the batches of step n, which depend on the seed and n alone.

    So a checkpoint needs neither the generators' states nor the position in the data: both follow from n.
    """

    def __init__(
        self, recipe: RewardRecipe, groups: GroupTensors, starts: Starts, preprocess: Preprocess, workers: Workers
    ) -> None:
        if groups.images is None:
            raise GroupError("the reward model trains on images; these groups have none")
        if recipe.groups_per_batch < workers.count * recipe.accumulate:
            raise GroupError(
                f"{recipe.groups_per_batch} groups a batch cannot be divided into {recipe.accumulate} parts"
            )
        self.recipe, self.workers = recipe, workers
        self.origin = starts.origin()  # before they train
        self.made_with = recipe.made_with() | {"groups": groups.fingerprint(), "backbone": self.origin["backbone"]}
        self.training, self.held_out = groups.split(min(recipe.held_out, len(groups) // 5))
        torch.manual_seed(recipe.seed)
        model = build(recipe, starts, groups.schema).to(workers.device)
        self.objective = OBJECTIVES[recipe.model]
        if groups.counts is not None and self.objective is not reward_cross_entropy:
            raise GroupError(f"the objective of {recipe.model} has no place for how much a pick counts")
        self.exact: dict[str, Tensor] = {}  # the backbone's weights, while it is held in bfloat16
        bf16 = workers.computes_bfloat16 if recipe.bf16 is None else recipe.bf16
        if bf16 and isinstance(model, PerFusionRM):
            self.exact = {name: value.clone() for name, value in model.clip.state_dict().items()}
            model.clip.bfloat16()  # frozen: the plug-ins stay in fp32 and need no autocast
            if workers.device.type == "cpu":
                model.clip.set_attn_implementation("eager")  # the fused one is slow there in bfloat16
        autocast = bf16 and not isinstance(model, PerFusionRM)
        self.scorer = RewardScorer(model, preprocess.to(workers.device), workers.device, autocast)
        self.parameters = trained(model)
        parts = [{"params": list(self.parameters.values())}]  # none for CLIP-H
        self.optimizer = torch.optim.AdamW(parts, recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = self._schedule()
        self.rows = self._usable(self.training)
        self.sampler = EpochSampler(
            self.rows, recipe.groups_per_batch, recipe.seed, self.training.weights_of(self.rows)
        )
        self.weights = np.ones(len(self.training), np.float32)  # of the groups in a batch's mean
        if recipe.model == "pickscore":
            self.weights[self.rows] = 1 / prompt_counts(self.training.input_ids[self.rows, 0])
        if not len(self._usable(self.held_out)):
            raise GroupError(
                f"{recipe.model} could learn from none of the {len(self.held_out)} groups held out to measure"
            )
        self.best = Best()

    @property
    def model(self) -> nn.Module:
        return self.scorer.model

    def _schedule(self) -> LambdaLR:
        warmup = max(1, self.recipe.warmup_steps)
        if self.recipe.decay:
            return warmup_cosine(self.optimizer, warmup, self.recipe.steps)
        return warmup_only(self.optimizer, warmup)

    def _usable(self, groups: GroupTensors) -> np.ndarray:
        """Rows the loss learns from: a negative, for HPSv1 beside one choice; a tie too for PickScore and HPSv2."""
        if self.recipe.model in ("pickscore", "hpsv2"):
            rows = groups.rows_with(negatives=False)
            chosen, there = groups.selected[rows].sum(1), groups.there[rows].sum(1)
            return rows[(there > chosen) | (chosen > 1)]
        rows = groups.rows_with(negatives=True)
        return rows[groups.selected[rows].sum(1) == 1] if self.recipe.model == "hpsv1" else rows

    def step(self, n: int) -> dict[str, float]:
        """One optimizer step; every worker draws the whole batch and computes its share, part by part."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + n)
        torch.manual_seed((self.recipe.seed * 1_000_003 + n) * 1_009 + self.workers.rank)  # of dropout
        rows = self.sampler.batch(n)
        features = drop_features(
            torch.from_numpy(self.training.features[rows]), self.training.schema, self.recipe.feature_dropout, generator
        )
        wordings = torch.randint(self.training.input_ids.shape[1], (len(rows),), generator=generator).numpy()
        self.model.train()
        self.optimizer.zero_grad()
        weights = torch.from_numpy(self.weights[rows] / self.weights[rows].mean())
        sums = torch.zeros(2, device=self.workers.device)  # over the groups: loss, hits
        for part in np.array_split(self.workers.share(np.arange(len(rows))), self.recipe.accumulate):
            if len(part):
                sums += self._backward(rows[part], wordings[part], features[part], weights[part], len(rows))
        self.workers.add_up_gradients(self.parameters.values())
        self.workers.add_up([sums])
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        loss, hits = (sums / len(rows)).tolist()
        return {"loss": loss, "top_1": hits, "grad_norm": norm.item()}

    def _backward(
        self, rows: np.ndarray, wordings: np.ndarray, features: Tensor, weights: Tensor, whole: int
    ) -> Tensor:
        """Adds these groups' gradient of the mean over the `whole` batch; returns their summed loss and hits."""
        scores = self.scorer.batch(self.training, rows, wordings, features)  # (B, K)
        selected = torch.from_numpy(self.training.selected[rows]).to(scores.device)
        present = torch.from_numpy(self.training.there[rows]).to(scores.device)
        chosen = torch.from_numpy(self.training.chosen_of(rows)).to(scores.device)
        loss = (self.objective(scores, chosen, present) * weights.to(scores.device)).sum()
        (loss / whole).backward()
        best = scores.detach().masked_fill(~present, -torch.inf).argmax(1, keepdim=True)
        return torch.stack([loss.detach(), selected.gather(1, best).float().sum()])  # the best-scored one was selected

    def state(self) -> dict[str, Stateful]:
        """Everything that changes from step to step."""
        return {
            "trained": Trained(self.parameters),
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "best": self.best,
        }

    def evaluate(self) -> tuple[float, Ranking]:
        """On the held-out groups, with each group's own features: the loss, and MAP and GAUC."""
        self.model.eval()
        groups, scores = self.held_out, self.scorer.all(self.held_out)
        ranking = rank_metrics(scores, np.asarray(groups.selected), groups.there)
        rows = self._usable(groups)
        chosen, present = torch.tensor(groups.chosen_of(rows)), torch.tensor(groups.there[rows])
        return self.objective(torch.tensor(scores[rows]), chosen, present).mean().item(), ranking

    def measure(self, n: int) -> Mapping[str, float]:
        """Measures the held-out groups every 100 steps and keeps the best parameters."""
        if (n + 1) % 100 and n + 1 != self.recipe.steps:
            return {}
        loss, ranking = self.evaluate()
        self.best.offer(loss, n + 1, self.parameters)
        return {"held_out_loss": loss, "held_out_map": ranking.map, "held_out_gauc": ranking.gauc}

    def finish(self) -> nn.Module:
        """The model with its best parameters, in fp32; ImageReward's rewards normalised on the held-out groups."""
        if self.best.weights:
            Trained(self.parameters).load_state_dict(self.best.weights)
        model = self.model.eval()
        if isinstance(model, PerFusionRM) and self.exact:
            model.clip.float().load_state_dict(self.exact)
        if isinstance(model, ImageReward):
            model.normalise_by(torch.tensor(self.scorer.all(self.held_out)[self.held_out.there]))
        return model


def train(
    recipe: RewardRecipe,
    groups: GroupTensors,
    starts: Starts,
    preprocess: Preprocess,
    out: Path,
    workers: Workers | None = None,
) -> RewardScorer:
    """Trains (or resumes), saves the model of the lowest held-out loss under out/<model>, and returns it.

    The held-out groups choose the model, so result.json's MAP and GAUC are biased upwards; training.reward.evaluate
    measures on other groups.
    """
    workers = workers or Workers()
    run = RewardTraining(recipe, groups, starts, preprocess, workers)
    if workers.is_first:
        dropped = len(run.training) - len(run.rows)
        print(f"{len(run.rows)} groups to train on, {dropped} unusable dropped, {len(run.held_out)} held out")
    if run.parameters:
        fit(out, recipe.steps, run.step, run.state(), on_log=run.measure, workers=workers, made_with=run.made_with)
    model = run.finish()
    if workers.is_first:
        out.mkdir(parents=True, exist_ok=True)
        save(model, out / recipe.model, run.origin)
        loss, ranking = run.evaluate()
        result = {
            "recipe": asdict(recipe),
            "training_groups": len(run.rows),
            "best_step": run.best.step,
            "held_out": asdict(ranking) | {"loss": run.best.loss if run.parameters else loss},
        }
        write_report(out / "result.json", result)
        print(f"held out: MAP {ranking.map:.4f}, GAUC {ranking.gauc:.4f} over {ranking.groups} groups")
    workers.wait()
    return run.scorer
