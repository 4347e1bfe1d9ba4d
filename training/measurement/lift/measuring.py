"""The lift of one metric from its counts: three labelled estimators, with intervals over stores.

This is what a report has of each metric, and what the A/A gate tests. Knows counts; no events and no names.
"""

from typing import Any

import numpy as np

from training.measurement.lift.counts import ItemCounts, StoreCounts, item_variance
from training.measurement.lift.estimators import LogRatios, paper, pooled
from training.measurement.lift.intervals import fieller, student, studentised
from training.measurement.resampling import draw_counts, percentiles

Report = dict[str, Any]
FEWEST = 2  # stores, below which nothing is estimated
FEW = 30  # stores, below which the intervals were found too short (docs/measuring.md)


def lift_of(
    counts: ItemCounts, least: float, *, draws: int = 2_000, confidence: float = 0.95, seed: int = 0,
    expected: np.ndarray | None = None,
) -> Report:  # fmt: skip
    """All three estimators as JSON values.

    Args:
        least: exposure that a store needs in both arms. It is compared with the exposure as counted.
        expected: exposure of each item as it is to be used, (I,), where it is adjusted for something.
    """
    everyone = StoreCounts.of(counts)
    exposed = everyone.exposed(least)
    exposure = counts.exposure if expected is None else expected
    used = ItemCounts(counts.store, counts.treated, counts.events, exposure)
    used = used.only(np.isin(counts.store, everyone.store[exposed]))
    stores = StoreCounts.of(used)
    report: Report = {
        "stores": len(stores.store),
        "dropped_stores": everyone.store[~exposed].tolist(),
        "least_exposure": least,
        "events": everyone.only(exposed).events.sum(0).tolist(),  # control, treatment
        "exposure": everyone.only(exposed).exposure.sum(0).tolist(),
        "few_stores": len(stores.store) < FEW,
    }
    if len(stores.store) < FEWEST or not stores.events.any():
        return report | {"primary": None, "pooled": None, "paper": None}
    drawn = draw_counts(len(stores.store), draws, np.random.default_rng(seed))
    return report | _primary(stores, item_variance(used), drawn, confidence) | _others(stores, drawn, confidence)


def _primary(stores: StoreCounts, omega: float, drawn: np.ndarray, confidence: float) -> Report:
    ratios = LogRatios.of(stores, omega)
    once = np.ones((1, len(stores.store)))
    low, high = studentised(ratios, drawn, confidence)
    own = ratios.shrunken()
    return {
        "primary": {
            "value": float(np.expm1(ratios.mean(once)[0][0])), "low": low, "high": high,
            "student": dict(zip(("low", "high"), student(ratios, confidence), strict=True)),
            "omega": omega, "tau": float(np.sqrt(ratios.between(once)[0])),
        },
        "by_store": [
            {"store": int(store), "lift": float(np.expm1(y)), "shrunken": float(np.expm1(mean)), "error": float(v**0.5)}
            for store, y, mean, v in zip(stores.store, ratios.y, own, ratios.v, strict=True)
        ],
    }  # fmt: skip


def _others(stores: StoreCounts, drawn: np.ndarray, confidence: float) -> Report:
    once = np.ones((1, len(stores.store)))
    report = {
        name: percentiles(float(estimator(stores, once)[0]), estimator(stores, drawn), confidence)
        for name, estimator in (("pooled", pooled), ("paper", paper))
    }
    bounds = dict(zip(("low", "high"), fieller(stores, confidence), strict=True))
    return {
        "pooled": report["pooled"] | {"fieller": bounds},
        "paper": report["paper"] | {"stores_without_ratio": int((stores.events[:, 0] == 0).sum())},
    }
