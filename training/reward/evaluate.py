"""What a trained model is worth: a reward model on any table of groups, a generator on the simulated market.

    python -m training.reward.evaluate reward --data build/unseen --model training/weights/tiny
    python -m training.reward.evaluate reward --data build/photos_test --model build/photos_run
    python -m training.reward.evaluate generator --adapter build/user_prompt/adapter --unet build/generator/dpo/unet

generator: draws prompts of merchants that no table reports (`--split`: or those of the generation table) with the
adapter and with the plain U-Net from the same noise; prints, with 95 % intervals over pairs of merchants, the true
utility, the best in a group, prompt accuracy, diversity, what a picture is worth to another user, the share of picture
pairs won, and the taste captured: (utility − plain) / (best of 64 plain pictures chosen by the truth − plain). Minutes.

reward: how well it predicts what users select, against what could be known. `--data` is a Parquet table of groups
(training.data.table); `--model` a family, or the --out of a training of any reward model, whose backbone then comes
from --weights. Prints, and with --out writes as JSON: MAP and GAUC with the groups that one class dropped, and the same
with every group's features given to another group (shuffled users: what is left does not depend on the user). Where the
market's truth.parquet lies beside the table also 95 % intervals over users, one block per category, and the ceilings:
the GAUC of the best possible ranking without the user, from the features alone, and with the whole truth.

share of the ceiling = (GAUC − without the user) / (from the features − without the user)

For merchants nobody trained on that is a ceiling. A model may learn more of merchants it trained on, whose features
give them away: there it can pass 1, up to what `full` allows.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.generation.evaluate import policies, told, try_generator
from lab.generation.splits import Size
from lab.market.table import TRUTH
from lab.preference.report import RoundsWithTruth, measure, table
from lab.recogniser.recogniser import Recogniser
from training.common.errors import ModelError
from training.common.loop import make_run_dir
from training.common.metrics import rank_metrics
from training.data.groups import GroupTensors
from training.data.load import reward_groups
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.models.reward_model import PerFusionRM
from training.reward.recipes import MODELS, Model
from training.reward.scores import RewardScorer


def evaluate_reward(data: Path, family: FamilyPaths, seed: int = 0, *, name: Model = "perfusion_rm") -> dict[str, Any]:
    """All that the module says of the model `name`, as JSON values.

    Raises:
        WeightsError: no trained plug-ins, or they do not fit the backbone.
        ModelError: the table has another feature schema than the plug-ins were trained with.
    """
    scorer = RewardScorer.of(family, name)
    groups = reward_groups(data, family)
    if isinstance(scorer.model, PerFusionRM) and groups.schema != scorer.model.schema:
        raise ModelError(f"{data} has another feature schema than the model was trained with")
    order = np.random.default_rng(seed).permutation(len(groups))
    scores = {"own_users": scorer.all(groups), "shuffled_users": scorer.all(groups, groups.features[order])}
    found: dict[str, Any] = {name: _ranking(values, groups) for name, values in scores.items()}
    if (data / TRUTH).exists():
        rounds = RoundsWithTruth.of(groups, data)
        by_name = {name: [values] for name, values in scores.items()}
        found["sets"] = {"all": measure(rounds, by_name)}
        for category in np.unique(rounds.categories):
            found["sets"][str(category)] = measure(rounds.only(rounds.categories == category), by_name)
    return found


def _ranking(scores: np.ndarray, groups: GroupTensors) -> dict[str, Any]:
    return asdict(rank_metrics(scores, np.asarray(groups.selected), groups.there))


def _model_in(folder: Path) -> Model:
    """Which reward model lies in a training's folder."""
    found: list[Model] = [model for model in MODELS if (folder / model).is_dir()]
    if len(found) > 1:
        raise ModelError(f"{folder} holds {', '.join(found)}: give each training a folder of its own")
    return found[0] if found else "perfusion_rm"


def _table(found: dict[str, Any]) -> str:
    """For a reader."""
    if "sets" in found:
        return table(found)
    lines = [f"{'':<16} {'MAP':>6} {'GAUC':>6} {'groups':>7} {'dropped':>8}"]
    for name in ("own_users", "shuffled_users"):
        row = found[name]
        lines.append(f"{name:<16} {row['map']:>6.3f} {row['gauc']:>6.3f} {row['groups']:>7} {row['dropped']:>8}")
    return "\n".join(lines)


def _reward(arguments: argparse.Namespace) -> dict[str, Any]:
    family = FamilyPaths.under(arguments.model)
    if not family.reward.exists():
        family = replace(family, reward=FamilyPaths.under(arguments.weights).reward)
    found = evaluate_reward(arguments.data, family, name=_model_in(arguments.model))
    print(_table(found))
    return found


def _generator(arguments: argparse.Namespace) -> dict[str, Any]:
    family, size = FamilyPaths.under(arguments.weights), Size(*arguments.size)
    tried = policies(family, arguments.unet, arguments.adapter, arguments.against)
    judge = Recogniser.load(TINY / "recogniser")
    found = try_generator(*tried, family, judge, arguments.split, size, arguments.seed)
    print(told(found))
    return found


def parse_arguments() -> argparse.Namespace:
    form: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(description=__doc__, **form)
    kinds = parser.add_subparsers(dest="what", required=True, metavar="reward|generator")
    reward = kinds.add_parser("reward", help="a reward model on a table of groups", description=__doc__, **form)
    reward.add_argument("--data", type=Path, required=True, help="table of groups")
    reward.add_argument("--model", type=Path, default=TINY, help="family, or a training (default: %(default)s)")
    reward.set_defaults(run=_reward)
    generator = kinds.add_parser(
        "generator", help="a generator on merchants of the simulated market", description=__doc__, **form
    )
    generator.add_argument("--adapter", type=Path, help="adapter directory; without it the U-Net itself is tried")
    generator.add_argument("--unet", type=Path, help="diffusers directory below it (default: the family's backbone)")
    generator.add_argument("--against", type=Path, help="the plain U-Net (default: the one below the adapter)")
    generator.add_argument("--split", choices=["validation", "seen", "unseen"], default="validation")
    generator.add_argument(
        "--size", nargs=5, type=int, default=(40, 8, 3, 15, 64), metavar=("MERCHANTS", "PROMPTS", "K", "POOL", "BEST"),
        help="merchants, prompts of each, candidates, prompts of each category, plain pictures to choose the best of "
        "(default: 40 8 3 15 64; the generation table has 100 20 5 15 64)",
    )  # fmt: skip
    generator.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    generator.set_defaults(run=_generator)
    for kind in (reward, generator):
        kind.add_argument("--weights", type=Path, default=TINY, help="the family of what is left out (%(default)s)")
        kind.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    hush_libraries()
    try:
        found = arguments.run(arguments)
        if arguments.out:
            make_run_dir(arguments.out.parent)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    except ModelError as error:
        print(f"cannot evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
