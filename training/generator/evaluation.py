"""What a generator's pictures are worth to the merchants of a team's own table, by reward models.

The prompts and profiles are those of real groups; a family and a baseline draw them from the same noise, reward models
score both, and differences are paired by merchant. How far a reward model can be trusted is measured on the same
groups: how well it ranks what the merchants picked. `python -m training.generator.evaluate` is the command. Knows
tables, families and reward models; no truth beyond picks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.common.resampling import Resampler, interval
from training.data.groups import GroupError, GroupTensors
from training.data.load import reward_groups
from training.data.table import Group, read_table
from training.generator.drawing import Generator
from training.models.family import FamilyPaths
from training.models.reward_model import PerFusionRM
from training.models.tokens import encode
from training.reward.evaluation import family_of, model_in
from training.reward.scores import RewardScorer

Mean = Callable[[np.ndarray], dict[str, float]]  # of values (G,) or (G, K), with its interval


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    groups: int = 100  # the last ones of the table with a pick, which trainings hold out
    candidates: int = 5  # drawn for each prompt
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        for name, least in (("groups", 2), ("candidates", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ModelError(f"{name} is {getattr(self, name)}, at least {least} is needed")


@dataclass(frozen=True)
class RewardOnTable:
    """A reward model and the groups of the table as it reads them."""

    name: str
    scorer: RewardScorer
    family: FamilyPaths
    shown: GroupTensors  # the measured groups with the pictures that their merchants saw

    def scores(self, prompts: Sequence[str], pictures: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """(G, K) of pictures (G, K, H, W, 3), for the groups' own profiles or for these (G, F)."""
        ids = encode(self.family.reward_tokenizer(), list(prompts))[:, None]
        users = np.asarray(self.shown.features) if features is None else features
        nothing = np.zeros(pictures.shape[:2], bool)
        return self.scorer.all(GroupTensors(self.shown.schema, users, nothing, ids, images=pictures))


def measured_groups(data: Path, family: FamilyPaths, size: Size) -> list[Group]:
    """The last groups of the table with both a pick and what was passed over, without their pictures' bytes.

    Raises:
        GroupError: there are fewer than two.
    """
    usable = [
        group
        for group in read_table(data, images=False)
        if len({candidate.selected for candidate in group.candidates}) == 2 and group.prompt.strip()
    ]
    prepared = reward_groups(data, family)
    there = set(np.asarray(prepared.group_ids).tolist())  # without those whose pictures cannot be read
    first = {group.group_id: group for group in reversed(usable) if group.group_id in there}
    found = list(reversed(first.values()))[-size.groups :]
    if len(found) < 2:
        raise GroupError(f"{data} has {len(found)} groups with both a pick and what was passed over; 2 are the least")
    return found


def reward_on(run: Path, weights: Path, data: Path, groups: Sequence[Group]) -> RewardOnTable:
    """The reward model in a training's folder or a family, on its own backbone or that of `weights`."""
    family, name = family_of(run, weights), model_in(run)
    scorer = RewardScorer.of(family, name)
    prepared = reward_groups(data, family, quiet=True)
    place = {group_id: row for row, group_id in enumerate(np.asarray(prepared.group_ids).tolist())}
    shown = prepared.rows(np.array([place[group.group_id] for group in groups]))
    return RewardOnTable(f"{name} of {run}", scorer, family, shown)


def evaluate(
    groups: Sequence[Group], rewards: Sequence[RewardOnTable], tried: Generator, baseline: Generator, size: Size
) -> dict[str, Any]:
    """Every number with its 95 % interval over merchants, as JSON values.

    Returns:
        groups, merchants, candidates: how much was measured.
        diversity: of `tried` and `baseline`, 1 − the mean cosine of a group's pictures, by the first reward's CLIP.
        rewards: by reward model, the mean score of `tried` and `baseline` and of the best in a group, their difference,
            also in standard deviations of the baseline's scores, the win rate picture by picture, what the tried
            pictures score for other merchants, and `picks`: MAP and GAUC of the picks of these groups.
    """
    prompts = [group.prompt for group in groups]
    merchants = np.unique([group.user_id for group in groups], return_inverse=True)[1]
    drawn = {
        name: generator.draw(prompts, _encoded(generator, groups), noise_of(generator, len(groups), size), name)
        for name, generator in (("tried", tried), ("baseline", baseline))
    }
    sample = Resampler(merchants)

    def mean(values: np.ndarray) -> dict[str, float]:  # (G,) or (G, K)
        return interval(*sample.mean((values if values.ndim == 1 else values.mean(1))[None]))

    return {
        "groups": len(groups), "merchants": int(merchants.max()) + 1, "candidates": size.candidates,
        "diversity": {name: mean(diversity(rewards[0], pictures)) for name, pictures in drawn.items()},
        "rewards": {reward.name: _by(reward, prompts, drawn, size, mean) for reward in rewards},
    }  # fmt: skip


def _by(
    reward: RewardOnTable, prompts: Sequence[str], drawn: Mapping[str, np.ndarray], size: Size, mean: Mean
) -> dict[str, Any]:
    tried, baseline = (reward.scores(prompts, pictures) for pictures in drawn.values())
    others = np.asarray(reward.shown.features)[np.random.default_rng(size.seed).permutation(len(prompts))]
    wins = (tried > baseline) + 0.5 * (tried == baseline)
    spread = float(baseline.std()) or 1.0
    return {
        "tried": mean(tried), "baseline": mean(baseline), "difference": mean(tried - baseline),
        "difference_in_deviations": mean((tried - baseline) / spread), "win_rate": mean(wins),
        "best_of_tried": mean(tried.max(1)), "best_of_baseline": mean(baseline.max(1)),
        "tried_for_others": mean(reward.scores(prompts, drawn["tried"], others)), "picks": agreement(reward),
    }  # fmt: skip


def agreement(reward: RewardOnTable) -> dict[str, Any]:
    """How well a reward model ranks the picks of the measured groups: for its own merchants, and for shuffled ones."""
    groups, selected = reward.shown, np.asarray(reward.shown.selected)
    order = np.random.default_rng(0).permutation(len(groups))
    scores = {
        "own_users": reward.scorer.all(groups),
        "shuffled_users": reward.scorer.all(groups, groups.features[order]),
    }
    return {name: asdict(rank_metrics(values, selected, groups.there)) for name, values in scores.items()}


@torch.inference_mode()
def diversity(reward: RewardOnTable, pictures: np.ndarray) -> np.ndarray:
    """1 − the mean cosine of two of a group's pictures (G, K, H, W, 3), as the reward's CLIP embeds them, (G,)."""
    clip, preprocess = reward.family.clip().to(reward.scorer.device), reward.scorer.preprocess
    flat = pictures.reshape(-1, *pictures.shape[2:])

    def embedded(part: np.ndarray) -> Tensor:
        pixels = preprocess(torch.tensor(part, device=reward.scorer.device))
        return F.normalize(clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output), dim=-1)

    parts = [embedded(flat[at : at + 64]) for at in range(0, len(flat), 64)]
    x = torch.cat(parts).unflatten(0, pictures.shape[:2])  # (G, K, e)
    k = x.shape[1]
    cosines = (x @ x.mT).sum((1, 2)) - k  # without each picture with itself
    found: np.ndarray = (1 - cosines / (k * (k - 1))).cpu().numpy()
    return found


def noise_of(generator: Generator, groups: int, size: Size) -> Tensor:
    """The noise (G, K, C, S, S) that every family of this latent shape starts from."""
    random = torch.Generator().manual_seed(size.seed)
    return torch.randn((groups, size.candidates, *generator.artist.latent_shape), generator=random)


def _encoded(generator: Generator, groups: Sequence[Group]) -> np.ndarray:
    return np.array([generator.schema.encode(group.features).slots for group in groups], np.int64)


def check_profiles(reward: RewardOnTable) -> None:
    """Refuses profiles that the reward model does not read."""
    model = reward.scorer.model
    if isinstance(model, PerFusionRM) and (differs := model.schema.difference(reward.shown.schema)):
        raise ModelError(f"the table differs from the schema of {reward.name}: {differs}")


def as_text(found: Mapping[str, Any]) -> str:
    """The numbers as lines of text."""
    lines = [f"{found['groups']} groups of {found['merchants']} merchants, {found['candidates']} pictures each"]
    lines += [f"diversity, {name}: {_said(value)}" for name, value in found["diversity"].items()]
    for name, row in found["rewards"].items():
        picks, others = row["picks"]["own_users"], row["picks"]["shuffled_users"]
        lines += [name]
        lines += [f"  {key.replace('_', ' ')}: {_said(value)}" for key, value in row.items() if key != "picks"]
        lines += [f"  GAUC of the picks: {picks['gauc']:.3f}, of shuffled merchants {others['gauc']:.3f}"]
    return "\n".join(lines)


def _said(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
