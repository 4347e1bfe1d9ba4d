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
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import TINY
from training.common.reports import write_report
from training.data.table import check_data


def options_of(description: str | None) -> argparse.ArgumentParser:
    """The options of every evaluation of a reward model."""
    parser = parser_of(description)
    parser.add_argument("--data", type=Path, required=True, help="table of groups")
    parser.add_argument("--model", type=Path, default=TINY, help="family, or a training (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family of what is left out (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Checks the table first, then loads torch."""
    arguments.data = check_data(arguments.data)

    from training.models.family import hush_libraries  # torch takes seconds to load
    from training.reward.evaluation import as_text, family_of, model_in, rankings, scores_of

    hush_libraries()
    family, name = family_of(arguments.model, arguments.weights), model_in(arguments.model)
    found = rankings(*scores_of(arguments.data, family, name=name))
    print(as_text(found))
    if arguments.out:
        write_report(arguments.out, found)


def main() -> int:
    return attempt(partial(run, options_of(__doc__).parse_args()), "cannot evaluate")


if __name__ == "__main__":
    raise SystemExit(main())
