"""What a generator's pictures are worth to the merchants of your own table, by reward models and held-out picks.

    python -m training.generator.evaluate --data TABLE --weights FAMILY --reward RUN/reward
    python -m training.generator.evaluate --data TABLE --weights FAMILY --baseline OLD_FAMILY --reward A B --out FILE

The prompts and profiles are those of the last groups of the table that have a pick, which trainings hold out; a table
of other merchants is better still. The family draws as it is released (adapter, wishes, defaults), the baseline from
the same noise: the family's own U-Net without the merchant, or `--baseline`. Each reward model scores both. Give one
that was trained on other data than the generator, or the numbers flatter what they trained; how far it can be trusted
is printed beside them, as the GAUC of these groups' picks. Intervals are 95 % by a bootstrap over merchants.
"""

import argparse
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.errors import ModelError
from training.common.places import TINY
from training.common.reports import write_report
from training.data.table import check_data, check_schema


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="table of groups that no training used")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family that draws (default: %(default)s)")
    parser.add_argument("--baseline", type=Path, help="family to compare with (default: the plain U-Net)")
    parser.add_argument("--reward", nargs="+", type=Path, required=True, help="trainings of reward models, or families")
    parser.add_argument("--reward-weights", type=Path, help="the family of their backbones (default: --weights)")
    parser.add_argument("--groups", type=int, default=100, help="how many prompts (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=5, help="pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Checks the table first, then loads torch."""
    arguments.data = check_data(arguments.data)
    if (arguments.data / "features.npy").is_file():
        raise ModelError(f"{arguments.data} holds arrays: prompts and profiles are needed as a table has them")

    from training.generator.drawing import Generator  # torch takes seconds to load
    from training.generator.evaluation import Size, as_text, check_profiles, evaluate, measured_groups, reward_on
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    size = Size(arguments.groups, arguments.candidates, arguments.seed)
    family, backbones = FamilyPaths.under(arguments.weights), arguments.reward_weights or arguments.weights
    check_schema(arguments.data, family.schema(), str(family.feature_schema))
    beside = FamilyPaths.under(arguments.baseline) if arguments.baseline else family
    for each in {family, beside}:
        each.check_generator_origins()
    tried, baseline = Generator(family), Generator(beside, personal=arguments.baseline is not None)
    groups = measured_groups(arguments.data, FamilyPaths.under(backbones), size)
    rewards = [reward_on(run, backbones, arguments.data, groups) for run in arguments.reward]
    for reward in rewards:
        check_profiles(reward)
    found = evaluate(groups, rewards, tried, baseline, size)
    print(as_text(found))
    if arguments.out:
        write_report(arguments.out, found)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "cannot evaluate")


if __name__ == "__main__":
    raise SystemExit(main())
