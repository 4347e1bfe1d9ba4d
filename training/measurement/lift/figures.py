"""A lift's report as a picture, as a page and as lines. Knows the report; computes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.common.plots import plot_intervals
from training.measurement.pages import heading, paragraph, picture, table, write_page

Report = dict[str, Any]
ESTIMATORS = {
    "primary": "the lift of the typical store: mean log ratio with shrinkage",
    "pooled": "the ratio of sums: large stores decide",
    "paper": "the unweighted mean of store ratios, biased upward",
}


def write_figures(report: Report, out: Path) -> None:
    """lift.png and report.html under `out`."""
    measured = {name: of for name, of in report["metrics"].items() if of["primary"]}
    panels = {
        estimator: {name: of[estimator] | {"mean": of[estimator]["value"]} for name, of in measured.items()}
        for estimator in ESTIMATORS
    }
    parts = [paragraph(warning, warning=True) for warning in report["warnings"]] + [
        gate_paragraph(report),
        _metrics(report),
    ]
    if measured:
        plot_intervals(panels, {name: {"no lift": 0.0} for name in panels}, out / "lift.png")
        parts.append(picture(out / "lift.png", "Lifts by metric and estimator, with intervals"))
    write_page(out / "report.html", "Lift of treated items", [*parts, _against(report), _data(report)])


def as_text(report: Report) -> str:
    """Warnings, and a line a metric."""
    lines = [f"! {warning}" for warning in report["warnings"]]
    lines.append(f"{'':<32}{'stores':>7}" + "".join(f"{name:>28}" for name in ESTIMATORS))
    for name, of in _rows(report).items():
        lines.append(
            f"{name:<32}{of['stores']:>7}" + "".join(f"{lift_text(of[estimator]):>28}" for estimator in ESTIMATORS)
        )
    return "\n".join(lines)


def _rows(report: Report) -> dict[str, Report]:
    return {**report["metrics"], "click_through, adjusted": report["adjusted"]}


def lift_text(found: Mapping[str, float] | None, without: str = "too few stores") -> str:
    """A lift with its interval; `without` one."""
    return without if found is None else f"{found['value']:+.1%} [{found['low']:+.1%}, {found['high']:+.1%}]"


def gate_paragraph(report: Report) -> str:
    """Whether the estimators were tested."""
    gate = report["gate"]
    if gate is None:
        return paragraph(
            "Not gated: nobody checked by A/A runs that these estimators find no lift where there is none.", True
        )
    return paragraph(f"The estimators passed the A/A gate of {gate['file']}: {gate['says']}.")


def _metrics(report: Report) -> str:
    rows = [
        [name, of["stores"], len(of["dropped_stores"]), *(lift_text(of[estimator]) for estimator in ESTIMATORS),
         bounds_text(of["primary"] and of["primary"]["student"]), bounds_text(of["pooled"] and of["pooled"]["fieller"])]
        for name, of in _rows(report).items()
    ]  # fmt: skip
    head = ["", "stores", "dropped", *ESTIMATORS, "primary by Student's t", "pooled by Fieller"]
    told = "; ".join(f"{name}: {says}" for name, says in ESTIMATORS.items())
    adjusted = "Adjusted: exposure weighted by what its surface, its position and the item's age let expect."
    return heading("Lift") + table(head, rows) + paragraph(f"{told}. {adjusted}")


def bounds_text(found: Mapping[str, float] | None) -> str:
    """An interval alone."""
    return "" if found is None else f"[{found['low']:+.1%}, {found['high']:+.1%}]"


def _against(report: Report) -> str:
    rows = [
        [f"{of['from_days']} to {of['to_days']} days" if of["to_days"] else f"{of['from_days']} days and more",
         of["stores"], *(lift_text(of[estimator]) for estimator in ESTIMATORS)]
        for of in report["by_age"]
    ]  # fmt: skip
    told = "A lift that is large among young items and gone among old ones is novelty."
    ages = heading("Click-through by the item's age") + table(["age", "stores", *ESTIMATORS], rows) + paragraph(told)
    if report["by_size"] is None:
        return ages
    sizes = [
        [name, of["stores"], *(lift_text(of[estimator]) for estimator in ESTIMATORS)]
        for name, of in report["by_size"].items()
    ]
    told = "Where these differ, the lift goes with a store's size, and every estimator weighs sizes in its own way."
    return (
        ages
        + heading("Click-through by the store's size")
        + table(["", "stores", *ESTIMATORS], sizes)
        + paragraph(told)
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _data(report: Report) -> str:
    arms = report["events"]["arms"]
    rows = [[name.replace("_", " "), *(_number(of[name]) for of in arms.values())] for name in arms["control"]]
    ratio, placebo, dropped = report["sample_ratio"], report["placebo"], report["events"]["dropped"]
    told = [
        f"Dropped: {dropped['same_event_id']} events with an event_id that was there, {dropped['within_window']} "
        f"impressions and clicks within the window, {dropped['without_arm']} events of items in no arm.",
        f"The plan is of {report['plan']['created']}, SHA-256 {report['plan']['sha256']}.",
    ]
    if ratio:
        told.append(f"Sample ratio: {ratio['treated']} of {ratio['items']} treated, planned {ratio['planned']:.0%}, "
                    f"p = {ratio['p']:.3f}, store by store {ratio['p_by_store']:.3f}.")  # fmt: skip
    if placebo and placebo["splits"]:
        told.append(f"Placebo: of {placebo['splits']} splits of the control items {placebo['found_a_lift']:.1%} "
                    f"found a lift, where 5 % should.")  # fmt: skip
    return heading("Data") + table(["", *arms], rows) + "".join(paragraph(text) for text in told)
