"""What buyers ordered of collected groups, and how much it counts beside the picks.

A picked candidate counts with s = 1 + W · log(1 + u), u its units ordered less those returned, 0 at least; every other
pick with 1. A group's loss is then Σ s_k · (−log p̂_k) over its picks, divided by their number: the loss without orders,
in which what sold counts s times. Trainings see it as a weight of the group, the mean s of its picks, and a target p*
in proportion to s. With enough groups p̂ comes to the chance of a pick times (1 + W · E[log(1 + u)]), over its sum in
the group: merchants' taste, tilted towards what buyers order. With W = 0 no orders are read, and nothing changes.

Knows the shop's table and groups; no trainings.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.columns import TableError
from training.data.delta import delta_name, one_line, open_delta
from training.data.table import Group

COLUMNS = ("event_id", "kind", "group_id", "image_id", "units")
_SIGNS = {"order": 1, "return": -1}


@dataclass(frozen=True)
class Orders:
    """Net units by group and picture, and the weight of a logarithm of them."""

    units: Mapping[tuple[str, str], int]  # (group_id, image_id); none below 1
    weight: float

    def counts(self, group: Group) -> np.ndarray:
        """s of each candidate, float32 (K,); 1 where it was not picked."""
        units = [self.units.get((group.group_id, c.image_id), 0) if c.selected else 0 for c in group.candidates]
        return (1 + self.weight * np.log1p(units)).astype(np.float32)

    def worth(self, group: Group) -> float:
        """The mean s of its picks; 1 without any."""
        picked = [candidate.selected for candidate in group.candidates]
        return float(self.counts(group)[picked].mean()) if any(picked) else 1.0

    def to_json(self, groups: Sequence[Group]) -> dict[str, Any]:
        """What the record says of the orders of these groups."""
        units = [
            self.units.get((group.group_id, candidate.image_id), 0)
            for group in groups
            for candidate in group.candidates
            if candidate.selected
        ]
        return {"weight": self.weight, "pictures_sold": sum(n > 0 for n in units), "units": sum(units)}


def read_orders(table: Path, weight: float, wanted: Collection[str]) -> Orders:
    """The orders of these groups from LAKE/shop, at a version or the newest.

    Raises:
        TableError: not a Delta table, or it lacks a column that collecting writes.
    """
    name = delta_name(table)
    if name is None:
        raise TableError(f"{table} is no Delta table: orders come from `training.retraining.collect`, LAKE/shop")
    try:
        dataset = open_delta(name).to_pyarrow_dataset()
        if missing := [column for column in COLUMNS if column not in dataset.schema.names]:
            raise TableError(f"{table} lacks {', '.join(missing)}: give LAKE/shop of `training.retraining.collect`")
        seen, units = set[str](), Counter[tuple[str, str]]()
        kinds, groups = pa.array(list(_SIGNS), pa.string()), pa.array(sorted(wanted), pa.string())
        for batch in dataset.to_batches(columns=list(COLUMNS)):
            found = batch.filter(pc.and_(pc.is_in(batch["kind"], kinds), pc.is_in(batch["group_id"], groups)))
            for row in found.to_pylist():
                if row["event_id"] not in seen:
                    seen.add(row["event_id"])
                    units[row["group_id"], row["image_id"]] += _SIGNS[row["kind"]] * (row["units"] or 1)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{table} cannot be read: {one_line(error)}") from error
    return Orders(+units, weight)
