"""Trains a reward model on groups of pictures: PerFusionRM's plug-ins, the CLIP backbone frozen (Eq. 7–9), an
ablation of it, or one of the six baselines.

Example, on the tiny family's backbone (resumes where it stopped):

    python -m training.reward.train --data build/reward_groups --out build/reward
    python -m training.reward.train --data build/reward_groups --out build/pickscore --model pickscore
    torchrun --nproc-per-node 2 -m training.reward.train --data … --out …      the same steps, shared by two

`--data` is a Parquet table of groups (training.data.table), decoded and tokenised once and kept in
build/prepared, or a directory of arrays (training.data.groups). `--out` gets checkpoint.pt, log.jsonl, log.png,
tensorboard/, the model under its name, and result.json with MAP and GAUC on the held-out groups.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from training.common.commands import add_changes, add_training_options, attempt, changes, parser_of
from training.common.errors import ModelError
from training.common.runs import held
from training.data.table import check_data
from training.reward.recipes import MODELS, RewardRecipe, paper, tiny

RECIPES = {"paper": paper, "tiny": tiny}
CHANGES = ("steps", "groups_per_batch", "accumulate", "lr", "seed", "held_out")  # the command line may change these


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_training_options(parser, "table of groups, or arrays with images", "family with reward/")
    parser.add_argument(
        "--model", choices=MODELS, default="perfusion_rm", help="what is trained (default: %(default)s)"
    )
    parser.add_argument(
        "--blip", type=Path, help="imagereward only: what it starts from, an ImageReward.pt or a folder"
    )
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help="the numbers (default: %(default)s)")
    add_changes(parser, RewardRecipe, CHANGES)
    bf16 = "the frozen backbone (of a baseline: all) in bfloat16 (tiny: where the processor computes it)"
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help=bf16)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Checks the arguments first, then loads torch."""
    recipe = replace(RECIPES[arguments.recipe](arguments.model), **changes(arguments, (*CHANGES, "bf16")))
    if (recipe.model == "imagereward") is not (arguments.blip is not None):
        raise ModelError("--blip and --model imagereward need each other: ImageReward starts from a BLIP")
    if recipe.accumulate > recipe.groups_per_batch:
        raise ModelError(f"{recipe.groups_per_batch} groups a batch cannot be divided into {recipe.accumulate} parts")
    arguments.data = check_data(arguments.data)

    from training.common.loop import check_resumable  # torch takes seconds to load
    from training.common.workers import Workers
    from training.data.load import by_all, reward_groups
    from training.models.family import FamilyPaths, hush_libraries
    from training.reward.models import Starts, read_blip
    from training.reward.training import train

    hush_libraries()
    workers = Workers.from_environment()
    arguments.data = workers.agreed(arguments.data)
    with held(arguments.out, unless=not workers.is_first):
        check_resumable(arguments.out, recipe.steps, recipe)
        family = FamilyPaths.under(arguments.weights)
        clip = family.clip()
        blip = read_blip(arguments.blip) if arguments.blip else None
        starts = Starts(clip, blip, family.reward_tokenizer())
        groups = by_all(workers, partial(reward_groups, arguments.data, family))
        train(recipe, groups, starts, family.preprocess(clip), arguments.out, workers)
    if workers.is_first:
        print(f"{recipe.model} written to {arguments.out / recipe.model}")


def main() -> int:
    return attempt(partial(run, parse_arguments()), "training stopped")


if __name__ == "__main__":
    raise SystemExit(main())
