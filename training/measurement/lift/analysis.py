"""The report on a shop's events: every metric by three estimators, against position and age, and what may be wrong.

Knows events and a plan; draws and writes nothing.
"""

from typing import Any

import numpy as np

from training.measurement.errors import MeasurementError
from training.measurement.lift.counts import StoreCounts
from training.measurement.lift.events import KINDS, Events
from training.measurement.lift.measuring import lift_of
from training.measurement.lift.metrics import Metric, age_bins, counted, expected_exposure, metrics_of
from training.measurement.lift.placebo import placebo
from training.measurement.lift.plan import Plan
from training.measurement.lift.randomisation import sample_ratio

Report = dict[str, Any]
OBSERVATIONAL = (
    "This comparison is observational: nobody assigned the items by chance, so items of the two arms may differ in "
    "product, price, age or place as well, and a lift here does not say what the treatment did. The paper's own "
    "comparison (§6.2) is of this kind."
)


def analysed(events: Events, plan: Plan, splits: int = 0) -> Report:
    """The report as JSON values.

    Args:
        splits: of the placebo test; 0: none.

    Raises:
        MeasurementError: one of the arms has no items.
    """
    treated = events.treated_of
    if treated.all() or not treated.any():
        raise MeasurementError(f"all {len(treated)} items are in one arm; a comparison needs two")
    click_through = metrics_of(())[0]
    report: Report = {
        "plan": plan.told(events.time_us),
        "events": _totals(events),
        "randomised": plan.treated_share is not None,
        "sample_ratio": None,
        "metrics": {metric.name: _metric(events, metric, plan) for metric in metrics_of(plan.surfaces)},
        "adjusted": _adjusted(events, click_through, plan),
        "by_age": _by_age(events, click_through, plan),
        "by_size": _by_size(events, click_through, plan),
        "placebo": None,
    }
    if plan.treated_share is not None:
        report["sample_ratio"] = sample_ratio(events.store_of, treated, plan.treated_share)
    if splits:
        counts = counted(events, click_through)
        report["placebo"] = placebo(counts, plan.least["click_through"], splits, float(treated.mean()))
    return report | {"warnings": _warnings(report)}


def _totals(events: Events) -> Report:
    of_arm = events.treated_of[events.item]
    return {
        "dropped": events.dropped,
        "items": {"control": int((~events.treated_of).sum()), "treatment": int(events.treated_of.sum())},
        "stores": len(events.stores),
        "arms": {
            name: {
                kind: int(((events.kind == n) & (of_arm == arm)).sum()) for n, kind in enumerate(KINDS)
            } | {f"units_{kind}": int(events.units[(events.kind == KINDS.index(kind)) & (of_arm == arm)].sum())
                 for kind in ("order", "return")}
            | {"mean_position": _mean(events.position, (events.kind == 0) & (of_arm == arm) & (events.position >= 0)),
               "mean_age_days": _mean(events.age_days, (events.kind == 0) & (of_arm == arm))}
            for arm, name in enumerate(("control", "treatment"))
        },
    }  # fmt: skip


def _mean(of: np.ndarray, where: np.ndarray) -> float | None:
    return float(of[where].mean()) if where.any() else None


def _metric(events: Events, metric: Metric, plan: Plan, where: np.ndarray | None = None) -> Report:
    least = plan.least[metric.family]
    found = lift_of(counted(events, metric, where), least, draws=plan.draws, confidence=plan.confidence)
    return _named(found, events)


def _adjusted(events: Events, metric: Metric, plan: Plan) -> Report:
    """The metric with exposures adjusted for surface, position and age."""
    expected = expected_exposure(events, metric)
    return _named(
        lift_of(
            counted(events, metric), plan.least[metric.family], draws=plan.draws, confidence=plan.confidence,
            expected=expected,
        ),
        events,
    )  # fmt: skip


def _by_age(events: Events, metric: Metric, plan: Plan) -> list[Report]:
    """The metric among events of items of each age, youngest first."""
    bins = age_bins(events, plan.age_days)
    edges = [0, *plan.age_days, None]
    return [
        {"from_days": edges[n], "to_days": edges[n + 1]} | _metric(events, metric, plan, bins == n)
        for n in range(len(plan.age_days) + 1)
    ]


def _by_size(events: Events, metric: Metric, plan: Plan) -> Report | None:
    """The metric among the compared stores of less and of more exposure than the median one."""
    counts, least = counted(events, metric), plan.least[metric.family]
    stores = StoreCounts.of(counts)
    compared = stores.only(stores.exposed(least))
    if len(compared.store) < 4:
        return None
    shown = compared.exposure.sum(1)
    large = compared.store[shown > np.median(shown)]
    small = np.setdiff1d(compared.store, large)
    return {
        name: _named(lift_of(counts.only(np.isin(counts.store, of)), least, draws=plan.draws), events)
        for name, of in (("smaller", small), ("larger", large))
    }


def _named(found: Report, events: Events) -> Report:
    """Stores by their names in the place of their numbers."""
    found["dropped_stores"] = [events.stores[n] for n in found["dropped_stores"]]
    for store in found.get("by_store", []):
        store["store"] = events.stores[store["store"]]
    return found


def _warnings(report: Report) -> list[str]:
    """What a reader has to know before the numbers, plainest first."""
    told = [] if report["randomised"] else [OBSERVATIONAL]
    ratio = report["sample_ratio"]
    if ratio and ratio["wrong"]:
        told.append(
            f"Sample ratio mismatch: {ratio['found']:.1%} of items are treated and {ratio['planned']:.1%} were "
            f"planned (p = {ratio['p']:.2g}, store by store {ratio['p_by_store']:.2g}). Find out why before reading on."
        )
    if before := report["plan"]["events_before_it"]:
        told.append(f"The plan was made after {before} of the events: its rules may have been chosen by their outcome.")
    few = [name for name, of in report["metrics"].items() if of["few_stores"]]
    if few:
        told.append(f"Fewer than 30 stores are compared, and intervals may be too short: {', '.join(few)}.")
    return told
