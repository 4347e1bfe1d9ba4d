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
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from training.common.commands import add_changes, add_training_options, attempt, changes, parser_of
from training.common.recipes import Reduction
from training.common.runs import held
from training.data.table import check_data
from training.generator.recipes import GROUP_OBJECTIVES, STAGES, GeneratorRecipe, Stage, paper, tiny

RECIPES = {"paper": paper, "tiny": tiny}
CHANGES = (
    *("steps", "groups_per_batch", "accumulate", "lr", "kappa", "noise_levels", "seed", "sheet_every"),
    *("leash", "contrast", "agreement", "guidance", "wished"),
)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_training_options(parser, "table of groups, or arrays with latents", "family with pipeline/")
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
    add_changes(parser, GeneratorRecipe, CHANGES)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="bfloat16 autocast")
    parser.add_argument("--checkpoint-gradients", action=argparse.BooleanOptionalAction, help="less memory, more time")
    arguments = parser.parse_args()
    if len(set(arguments.stages)) < len(arguments.stages):
        parser.error(f"each stage once; got {' '.join(arguments.stages)}")
    if arguments.start and RECIPES[arguments.recipe](arguments.stages[0]).trains == "unet":
        parser.error(f"--start is an adapter, and the first stage, {arguments.stages[0]}, trains the U-Net below it")
    return arguments


def recipes_of(arguments: argparse.Namespace) -> dict[Stage, GeneratorRecipe]:
    """A recipe for each stage, in order.

    Raises:
        ModelError: a number is out of its range.
    """
    changed = changes(arguments, (*CHANGES, "reduction", "bf16", "checkpoint_gradients"))
    recipes = {name: replace(RECIPES[arguments.recipe](name), **changed) for name in arguments.stages}
    if arguments.objective:
        of_groups = {name: recipe for name, recipe in recipes.items() if recipe.objective == "group"}
        recipes |= {name: replace(recipe, objective=arguments.objective) for name, recipe in of_groups.items()}
    return recipes


def run(arguments: argparse.Namespace) -> None:
    """Checks the arguments first, then loads torch."""
    recipes = recipes_of(arguments)
    arguments.data = check_data(arguments.data)

    from training.common.loop import check_resumable  # torch takes seconds to load
    from training.common.workers import Workers
    from training.data.load import by_all, generator_groups
    from training.generator.training import check_starts, train_stage
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    family, workers = FamilyPaths.under(arguments.weights), Workers.from_environment()
    arguments.data = workers.agreed(arguments.data)
    with held(arguments.out, unless=not workers.is_first):
        for name, recipe in recipes.items():
            check_resumable(arguments.out / name, recipe.steps, recipe)
        family.check_pipeline()
        below = family.backbone_files if next(iter(recipes.values())).trains == "adapter" else family.pipeline / "unet"
        unet, adapter, written = arguments.unet or below, arguments.start, list[str]()
        check_starts(unet, adapter, arguments.data, family)
        groups = by_all(workers, partial(generator_groups, arguments.data, family))
        for name, recipe in recipes.items():  # each on the result of those before it
            kept = train_stage(recipe, groups, family, arguments.out / name, unet=unet, start=adapter, workers=workers)
            unet, adapter = (kept, None) if recipe.trains == "unet" else (unet, kept)
            written.append(f"{'U-Net' if recipe.trains == 'unet' else 'adapter'} written to {kept}")
    tell(written if workers.is_first else ())


def tell(lines: Sequence[str]) -> None:
    """Prints what was written."""
    for line in lines:
        print(line)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "training stopped")


if __name__ == "__main__":
    raise SystemExit(main())
