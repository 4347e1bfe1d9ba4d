"""The report on a shop's events where chance assigned viewers. Knows events and a plan; draws and writes nothing."""

from typing import Any

from training.measurement.errors import MeasurementError
from training.measurement.lift.events import KINDS, ORDER
from training.measurement.lift.metrics import metrics_of
from training.measurement.lift.plan import Plan
from training.measurement.lift.viewer_events import ViewerEvents
from training.measurement.lift.viewers import viewer_lift, viewer_placebo, viewer_ratio

Report = dict[str, Any]
PER_VIEWER = "orders_per_viewer"
SELF_SELECTED = (
    "This comparison is observational: nobody assigned the viewers by chance, so those of the two arms may differ in "
    "what they want as well, and a lift here does not say what the treatment did."
)


def analysed_by_viewer(events: ViewerEvents, plan: Plan, splits: int = 0) -> Report:
    """The report as JSON values.

    Args:
        splits: of the placebo test; 0: none.

    Raises:
        MeasurementError: one of the arms has no viewers.
    """
    treated = events.treated_of
    if treated.all() or not treated.any():
        raise MeasurementError(f"all {len(treated)} viewers are in one arm; a comparison needs two")
    metrics = metrics_of(plan.surfaces)
    found = {
        metric.name: viewer_lift(events.counted(metric), plan.least[metric.family], confidence=plan.confidence)
        for metric in metrics
    }
    found[PER_VIEWER] = viewer_lift(events.per_viewer(ORDER), 1, confidence=plan.confidence)
    report: Report = {
        "unit": plan.unit,
        "plan": plan.told(events.time_us),
        "events": _totals(events),
        "randomised": plan.treated_share is not None,
        "sample_ratio": None if plan.treated_share is None else viewer_ratio(treated, plan.treated_share),
        "metrics": found,
        "placebo": None,
    }
    if splits:
        counts, least = events.counted(metrics[0]), plan.least["click_through"]
        report["placebo"] = viewer_placebo(counts, least, splits, float(treated.mean()))
    return report | {"warnings": _warnings(report)}


def _totals(events: ViewerEvents) -> Report:
    of_arm = events.treated_of[events.viewer]
    return {
        "dropped": events.dropped,
        "arms": {
            name: {"viewers": int((events.treated_of == arm).sum())}
            | {kind: int(((events.kind == n) & (of_arm == arm)).sum()) for n, kind in enumerate(KINDS)}
            for arm, name in enumerate(("control", "treatment"))
        },
    }


def _warnings(report: Report) -> list[str]:
    """What a reader has to know before the numbers, plainest first."""
    told = [] if report["randomised"] else [SELF_SELECTED]
    ratio = report["sample_ratio"]
    if ratio and ratio["wrong"]:
        told.append(
            f"Sample ratio mismatch: {ratio['found']:.1%} of the viewers are treated and {ratio['planned']:.1%} were "
            f"planned (p = {ratio['p']:.2g}). Find out why before reading on."
        )
    if before := report["plan"]["events_before_it"]:
        told.append(f"The plan was made after {before} of the events: its rules may have been chosen by their outcome.")
    if unknown := report["events"]["dropped"]["without_viewer"]:
        told.append(f"{unknown} events are nobody's (no viewer_hash) and in no arm: are they as many in both?")
    few = [name for name, of in report["metrics"].items() if of["few_viewers"]]
    if few:
        told.append(f"Few viewers in an arm, and lifts may be a percent point too high: {', '.join(few)}.")
    return told
