"""Trains a U-Net by step-aware preference optimisation (SPO; Liang et al., 2024), a baseline without the merchant.

    python -m training.generator.train_spo --data build/groups --out build/spo --recipe tiny

Two stages, each resumable. `step_aware`: a CLIP with the noise level as an input learns from the groups' picks which
of their pictures, noised to one level and predicted back by the U-Net, is preferred. `spo`: each round draws prompts
with that CLIP as the critic and trains on the pairs beyond its threshold. `--out` gets a folder for each stage
with checkpoint.pt, log.jsonl, log.png and tensorboard/, the preference model as step_aware/model.safetensors and the
U-Net as spo/unet in diffusers' format. The log's columns of `spo`: loss, winner and loser (mean ratio p_θ/p_ref of
one step), pairs (trained on in a round), score (of all candidates, on the preference model's scale).
"""

import argparse
from functools import partial
from pathlib import Path

from training.common.commands import add_training_options, attempt, parser_of
from training.common.runs import held
from training.data.table import check_data
from training.generator.spo_recipes import RECIPES


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_training_options(parser, "table of groups, or arrays with latents", "family with pipeline/ and reward/")
    parser.add_argument("--unet", type=Path, help="diffusers U-Net directory to start from instead of the family's")
    parser.add_argument("--recipe", choices=RECIPES, default="published", help="the numbers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Checks the arguments first, then loads torch."""
    recipe = RECIPES[arguments.recipe](arguments.seed)
    arguments.data = check_data(arguments.data)

    from training.common.loop import check_resumable  # torch takes seconds to load
    from training.data.load import generator_groups
    from training.generator.spo_training import train
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    with held(arguments.out):
        check_resumable(arguments.out / "step_aware", recipe.step_aware.steps, recipe.step_aware)
        check_resumable(arguments.out / "spo", recipe.spo.rounds, recipe.spo)
        family.check_pipeline()
        groups = generator_groups(arguments.data, family)
        unet = train(recipe, groups, family, arguments.out, arguments.unet)
    print(f"U-Net written to {unet}")


def main() -> int:
    return attempt(partial(run, parse_arguments()), "training stopped")


if __name__ == "__main__":
    raise SystemExit(main())
