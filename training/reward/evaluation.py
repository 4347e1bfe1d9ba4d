"""The scores of a reward model on a table of groups, and how well they predict the picks.

`python -m training.reward.evaluate` is the command. Knows tables, families and reward models; no command line.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.data.groups import GroupTensors
from training.data.load import reward_groups
from training.data.table import check_data, check_schema
from training.models.family import FamilyPaths
from training.models.reward_model import PerFusionRM
from training.reward.recipes import MODELS, Model
from training.reward.scores import RewardScorer


def scores_of(
    data: Path, family: FamilyPaths, seed: int = 0, *, name: Model = "perfusion_rm"
) -> tuple[GroupTensors, dict[str, np.ndarray]]:
    """A table's groups, and the scores (N, K) of the model `name`: of its own users, and of shuffled ones.

    Raises:
        WeightsError: no trained model, or it does not fit the backbone.
        FeatureError: the table has another feature schema than the plug-ins were trained with.
    """
    data = check_data(data)
    scorer = RewardScorer.of(family, name)
    if isinstance(scorer.model, PerFusionRM):
        check_schema(data, scorer.model.schema, f"the schema of {family.perfusion_rm.with_name(name)}")
    groups = reward_groups(data, family)
    order = np.random.default_rng(seed).permutation(len(groups))
    return groups, {
        "own_users": scorer.all(groups),
        "shuffled_users": scorer.all(groups, groups.features[order]),
    }


def rankings(groups: GroupTensors, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """MAP and GAUC of each array of scores, as JSON values."""
    selected = np.asarray(groups.selected)
    return {name: asdict(rank_metrics(values, selected, groups.there)) for name, values in scores.items()}


def model_in(folder: Path) -> Model:
    """The reward model in a training's folder.

    Raises:
        ModelError: none, or more than one.
    """
    found: list[Model] = [model for model in MODELS if (folder / model).is_dir()]
    if not found:
        raise ModelError(f"{folder} holds no reward model: none of the folders {', '.join(MODELS)}")
    if len(found) > 1:
        raise ModelError(f"{folder} holds {', '.join(found)}: give each training a folder of its own")
    return found[0]


def family_of(model: Path, weights: Path) -> FamilyPaths:
    """The family in this folder, or a training's folder with the backbone of `weights`."""
    family = FamilyPaths.under(model)
    return family if family.reward.exists() else replace(family, reward=FamilyPaths.under(weights).reward)


def as_text(found: dict[str, Any]) -> str:
    """The numbers as lines of text."""
    lines = [f"{'':<16} {'MAP':>6} {'GAUC':>6} {'groups':>7} {'dropped':>8}"]
    for name in ("own_users", "shuffled_users"):
        row = found[name]
        lines.append(f"{name:<16} {row['map']:>6.3f} {row['gauc']:>6.3f} {row['groups']:>7} {row['dropped']:>8}")
    return "\n".join(lines)
