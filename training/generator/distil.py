"""Distils a family's generator into a student: four denoising steps of one pass each, in place of more with two.

    python -m training.generator.distil --data TABLE --out build/student --recipe tiny
    python -m training.exporting.export --weights build/student/family

The teacher, the family's U-Net with its adapter and wishes, draws trajectories for prompts and merchants of `--data`
(a table of groups, training.data.table; no picture of it is read). The student begins as a copy of it, and learns to
take each of its own steps to where the teacher goes in several (`jumps`), and then all of them from noise to the end
(`ways`); training.generator.distilling says how. The guidance scale, negative prompts and the adapter scale keep their
meaning, in one pass: the family's guidance scale best, others as well as the student has learnt them.

`--out` gets family/, whole, with the student in its place and its steps and sampler as defaults, like any other for
training.exporting.export; trajectories/, which may be removed afterwards; and jumps/ and ways/ with checkpoint.pt,
log.jsonl, log.png and tensorboard/. The same command again goes on where it stopped. The log's columns: loss,
grad_norm; held_out_first and held_out_last, the mean squared error of latents after the first and the last step of the
student, against the teacher, on trajectories that it does not train on. On the tiny family it takes half an hour
of one core.

What the student is worth: training.generator.evaluate with `--weights build/student/family --baseline FAMILY`, on
groups of other merchants.
"""

import argparse
from dataclasses import replace
from functools import partial

from training.common.commands import add_changes, add_training_options, attempt, changes, parser_of
from training.common.runs import held
from training.data.table import check_data, check_schema
from training.generator.distil_recipes import RECIPES, DistilRecipe

CHANGES = (
    *("trajectories", "denoising_steps", "between", "jump_steps", "way_steps", "lr", "way_lr"),
    *("held_out", "jumps_per_batch", "ways_per_batch", "astray", "unknown", "varied"),
    *("served_guidance", "accumulate", "seed"),
)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add_training_options(parser, "table of groups, or arrays with prompts", "the teacher's family")
    parser.add_argument("--recipe", choices=RECIPES, default="tiny", help="the numbers (default: %(default)s)")
    add_changes(parser, DistilRecipe, CHANGES)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Checks the arguments first, then loads torch."""
    recipe = replace(RECIPES[arguments.recipe](), **changes(arguments, CHANGES))
    arguments.data = check_data(arguments.data)

    from training.generator.asking import Asker  # torch takes seconds to load
    from training.generator.distilling import distil
    from training.models.family import FamilyPaths, hush_libraries, new_family

    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    check_schema(arguments.data, family.schema(), str(family.feature_schema))
    with held(arguments.out):
        parts = distil(recipe, Asker.of_data(arguments.data, family), family, arguments.out)
        with new_family(family, parts, arguments.out / "family"):
            pass
    print(f"family written to {arguments.out / 'family'}")


def main() -> int:
    return attempt(partial(run, parse_arguments()), "distillation stopped")


if __name__ == "__main__":
    raise SystemExit(main())
