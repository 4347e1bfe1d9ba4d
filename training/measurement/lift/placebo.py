"""An A/A test on a team's own shop: the control items of each store are split in two by chance, and no lift may be
found.

It sees what a simulation cannot: how unequal these stores and items really are. Knows counts; no events.
"""

from typing import Any

import numpy as np

from training.measurement.lift.counts import ItemCounts
from training.measurement.lift.measuring import lift_of


def placebo(counts: ItemCounts, least: float, splits: int, share: float, seed: int = 0) -> dict[str, Any]:
    """How often the interval of the primary lift left 0 out, and what each estimator found on average.

    Args:
        share: of the control items, which a split calls treated.
    """
    rng = np.random.default_rng(seed)
    control = counts.only(~counts.treated)
    found = []
    for number in range(splits):
        split = ItemCounts(control.store, rng.random(len(control.store)) < share, control.events, control.exposure)
        report = lift_of(split, least, draws=400, seed=number)
        if report["primary"] is not None and np.isfinite(report["primary"]["low"]):
            found.append(report)
    wrong = [not of["primary"]["low"] <= 0 <= of["primary"]["high"] for of in found]
    return {
        "splits": len(found),
        "share": share,
        "found_a_lift": float(np.mean(wrong)) if found else None,
        "mean_lift": {n: float(np.mean([of[n]["value"] for of in found])) for n in ("primary", "pooled", "paper")}
        if found else None,
    }  # fmt: skip
