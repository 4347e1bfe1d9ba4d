"""How well a reward model predicts what merchants pick, on any table of groups.

    python -m training.reward.evaluate --data build/unseen --model training/weights/tiny
    python -m training.reward.evaluate --data build/photos_test --model build/photos_run

`--data` is a Parquet table of groups (training.data.table); `--model` a family, or the --out of a training of any
reward model, whose backbone then comes from --weights. Prints, and with --out writes as JSON: MAP and GAUC, the
number of groups dropped because they have one class only, and MAP and GAUC with every group's features given to
another group (shuffled users: the rest does not depend on the merchant). `python -m lab.preference.evaluate` adds the
ceilings of the simulated market.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import InputError
from training.common.errors import ModelError
from training.common.loop import make_run_dir
from training.common.metrics import rank_metrics
from training.data.groups import GroupTensors
from training.data.load import reward_groups
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.models.reward_model import PerFusionRM
from training.reward.recipes import MODELS, Model
from training.reward.scores import RewardScorer


def scores_of(
    data: Path, family: FamilyPaths, seed: int = 0, *, name: Model = "perfusion_rm"
) -> tuple[GroupTensors, dict[str, np.ndarray]]:
    """A table's groups, and the scores (N, K) of the model `name`: of its own users, and of shuffled ones.

    Raises:
        WeightsError: no trained plug-ins, or they do not fit the backbone.
        ModelError: the table has another feature schema than the plug-ins were trained with.
    """
    scorer = RewardScorer.of(family, name)
    groups = reward_groups(data, family)
    if isinstance(scorer.model, PerFusionRM) and groups.schema != scorer.model.schema:
        raise ModelError(f"{data} has another feature schema than the model was trained with")
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
        ModelError: more than one.
    """
    found: list[Model] = [model for model in MODELS if (folder / model).is_dir()]
    if len(found) > 1:
        raise ModelError(f"{folder} holds {', '.join(found)}: give each training a folder of its own")
    return found[0] if found else "perfusion_rm"


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


def parser_of(description: str) -> argparse.ArgumentParser:
    """The options of every evaluation of a reward model."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups")
    parser.add_argument("--model", type=Path, default=TINY, help="family, or a training (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family of what is left out (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser


def write(found: dict[str, Any], out: Path | None) -> None:
    """Writes the numbers as JSON if a path is given."""
    if out:
        make_run_dir(out.parent)
        out.write_text(json.dumps(found, indent=1) + "\n")


def main() -> int:
    arguments = parser_of(__doc__).parse_args()
    hush_libraries()
    try:
        family, name = family_of(arguments.model, arguments.weights), model_in(arguments.model)
        found = rankings(*scores_of(arguments.data, family, name=name))
        print(as_text(found))
        write(found, arguments.out)
    except InputError as error:
        print(f"cannot evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
