"""The family that a retraining makes: the base family's parts, what was trained in their place, and the record of it.

Knows folders; nothing about what trains.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.common.reports import write_report
from training.models.family import FamilyPaths, new_family
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
    with new_family(base, trained, out) as places:
        write_report(places.retraining, record)
        learnt.write(places.retraining.parent)
    return FamilyPaths.under(out)
