"""The family that a retraining makes: the base family's parts, and what was trained in their place.

Files are copied, not linked, because a team copies trained parts over a family's own (docs/training.md). Knows folders;
nothing about what trains.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.common.reports import write_report
from training.models.family import FamilyPaths
from training.retraining.trained_on import TrainedOn


def assemble(
    base: FamilyPaths, trained: Mapping[str, Path], record: Mapping[str, Any], learnt: TrainedOn, out: Path
) -> FamilyPaths:
    """Puts a whole family into `out`, at once or not at all; returns its paths.

    Args:
        trained: the parts in the base's place, by their names in FamilyPaths.
        record: how the family was trained: its retraining.json.
        learnt: on what.
    """
    unfinished = out.with_name(f"{out.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    places = FamilyPaths.under(unfinished)
    for part, place in vars(places).items():
        source = trained.get(part, getattr(base, part))
        if source.is_dir():
            shutil.copytree(source, place)
        elif source.is_file():
            shutil.copy2(source, place)
    write_report(places.retraining, record)
    learnt.write(unfinished)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return FamilyPaths.under(out)
