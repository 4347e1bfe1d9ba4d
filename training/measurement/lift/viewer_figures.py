"""A lift's report by viewers as a picture, as a page and as lines. Knows the report; computes nothing."""

from pathlib import Path
from typing import Any

from training.common.plots import plot_intervals
from training.measurement.lift.figures import bounds_text, gate_paragraph, lift_text
from training.measurement.pages import heading, paragraph, picture, table, write_page

Report = dict[str, Any]
_TOO_FEW = "too few events"


def write_viewer_figures(report: Report, out: Path) -> None:
    """lift.png and report.html under `out`."""
    parts = [paragraph(warning, warning=True) for warning in report["warnings"]]
    parts += [gate_paragraph(report), _metrics(report)]
    measured = {name: of["lift"] for name, of in report["metrics"].items() if of["lift"]}
    if measured:
        panel = {name: of | {"mean": of["value"]} for name, of in measured.items()}
        plot_intervals({"by viewer": panel}, {"by viewer": {"no lift": 0.0}}, out / "lift.png")
        parts.append(picture(out / "lift.png", "Lifts by metric, with intervals"))
    write_page(out / "report.html", "Lift among treated viewers", [*parts, _data(report)])


def viewer_text(report: Report) -> str:
    """Warnings, and a line a metric."""
    lines = [f"! {warning}" for warning in report["warnings"]]
    lines.append(f"{'':<32}{'control':>10}{'treatment':>10}{'lift':>28}")
    for name, of in report["metrics"].items():
        control, treatment = of["viewers"]
        lines.append(f"{name:<32}{control:>10}{treatment:>10}{lift_text(of['lift'], _TOO_FEW):>28}")
    return "\n".join(lines)


def _metrics(report: Report) -> str:
    rows = [
        [name, *of["viewers"], lift_text(of["lift"], _TOO_FEW), bounds_text(of["lift"] and of["lift"]["fieller"]),
         f"{of['lift']['design_effect']:.1f}" if of["lift"] else ""]
        for name, of in report["metrics"].items()
    ]  # fmt: skip
    head = ["", "viewers, control", "treatment", "lift", "by Fieller", "design effect"]
    told = (
        "The ratio of sums over viewers; intervals are over viewers. Design effect: how many times larger the variance "
        "is than if each event were another viewer's."
    )
    return heading("Lift") + table(head, rows) + paragraph(told)


def _data(report: Report) -> str:
    arms = report["events"]["arms"]
    rows = [[name, *(f"{of[name]:,}" for of in arms.values())] for name in arms["control"]]
    dropped, ratio, placebo = report["events"]["dropped"], report["sample_ratio"], report["placebo"]
    told = [
        f"Dropped: {dropped['same_event_id']} events with an event_id that was there, {dropped['within_window']} "
        f"impressions and clicks within the window, {dropped['without_viewer']} events of nobody, "
        f"{dropped['without_arm']} of viewers in no arm, {dropped['without_impression']} of viewers without an "
        "impression.",
        f"The plan is of {report['plan']['created']}, SHA-256 {report['plan']['sha256']}.",
    ]
    if ratio:
        told.append(
            f"Sample ratio: {ratio['treated']} of {ratio['viewers']} treated, planned {ratio['planned']:.0%}, "
            f"p = {ratio['p']:.3f}."
        )
    if placebo and placebo["splits"]:
        told.append(
            f"Placebo: of {placebo['splits']} splits of the control viewers {placebo['found_a_lift']:.1%} found a "
            "lift, where 5 % should."
        )
    return heading("Data") + table(["", *arms], rows) + "".join(paragraph(text) for text in told)
