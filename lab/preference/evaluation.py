"""A reward model's picks on the simulated market beside the ceilings, all and by category.

`python -m lab.preference.evaluate` is the command, and says what is measured.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from lab.market.table import TRUTH
from lab.preference.report import RoundsWithTruth, measure, table
from training.common.errors import ModelError
from training.common.reports import write_report
from training.models.family import FamilyPaths, hush_libraries
from training.reward.evaluation import family_of, model_in, rankings, scores_of
from training.reward.recipes import Model


def evaluate(data: Path, family: FamilyPaths, *, name: Model = "perfusion_rm") -> dict[str, Any]:
    """All numbers of the module for the model `name`, as JSON values.

    Raises:
        ModelError: there is no truth beside the table.
    """
    if not (data / TRUTH).exists():
        raise ModelError(f"{data} has no {TRUTH}: python -m training.reward.evaluate needs none")
    groups, scores = scores_of(data, family, name=name)
    rounds, by_name = RoundsWithTruth.of(groups, data), {name: [values] for name, values in scores.items()}
    sets = {"all": measure(rounds, by_name)}
    for category in np.unique(rounds.categories):
        sets[str(category)] = measure(rounds.only(rounds.categories == category), by_name)
    return rankings(groups, scores) | {"sets": sets}


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    hush_libraries()
    family, name = family_of(arguments.model, arguments.weights), model_in(arguments.model)
    found = evaluate(arguments.data, family, name=name)
    print(table(found))
    if arguments.out:
        write_report(arguments.out, found)
