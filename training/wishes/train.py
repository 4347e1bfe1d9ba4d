"""Fits preference weights on any table of groups: which phrases merchants of a profile favour. Minutes on one core.

    python -m training.wishes.train --data TABLE --out build/wishes

The family's CLIP finds which phrases of phrases.json every candidate shows (no labels are needed), and a choice model
learns from the picks which of them each profile favours. It needs a family's `reward/`, `phrases.json` and
`feature_schema.json`. Tags are kept in build/prepared, so a repeated command is quick. `--out` gets

    preferences/   the weights, a part of the family: cp -rT build/wishes/preferences FAMILY/preferences
                   history.json in it, where merchants have several picks: how favours vary among merchants
    picks.json     the cross-entropy of held-out picks by profile, and by the population average alone

A kind needs at least two phrases: a kind's only phrase never becomes a wish, so "belted" needs "beltless".
"""

import argparse
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import TINY
from training.data.table import check_data


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="table of groups (training.data.table)")
    parser.add_argument("--out", type=Path, required=True, help="where the weights are written")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family (default: %(default)s)")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Checks the table first, then loads torch."""
    arguments.data = check_data(arguments.data)

    from training.models.family import FamilyPaths, hush_libraries  # torch takes seconds to load
    from training.wishes.training import train

    hush_libraries()
    train(arguments.data, FamilyPaths.under(arguments.weights), arguments.out)
    print(f"preference weights written to {arguments.out / 'preferences'}")


def main() -> int:
    return attempt(partial(run, parse_arguments()), "training stopped")


if __name__ == "__main__":
    raise SystemExit(main())
