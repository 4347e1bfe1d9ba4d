"""A rating's report as a picture and as a page. Knows the report; computes nothing."""

from pathlib import Path
from typing import Any

from training.common.plots import plot_intervals
from training.measurement.pages import heading, paragraph, picture, table, write_page
from training.measurement.rating.protocol import NAMES

Report = dict[str, Any]


def write_figures(report: Report, out: Path) -> None:
    """ratios.png and report.html under `out`."""
    panels = {
        f"{method} / {report['reference']}": {
            name.replace("_", " "): cell["ratio"] | {"mean": cell["ratio"]["value"]} for name, cell in cells.items()
        }
        for method, cells in report["methods"].items()
    }  # fmt: skip
    plot_intervals(panels, {title: {"equal": 1.0} for title in panels}, out / "ratios.png")
    parts = [_head(report), *(_method(report, method) for method in report["methods"])]
    parts += [picture(out / "ratios.png", "Ratios by aspect with intervals"), _agreement(report), _quality(report)]
    write_page(out / "report.html", f"Blind rating against {report['reference']}", parts)


def as_text(report: Report) -> str:
    """The ratios, a line a method and aspect."""
    lines = [f"{'':<34}{'mean':>7}{report['reference']:>12}{'ratio':>8}  interval"]
    for method, cells in report["methods"].items():
        for name, cell in cells.items():
            ratio = cell["ratio"]
            lines.append(
                f"{method + ' ' + name:<34}{cell['mean']:>7.3f}{cell['reference_mean']:>12.3f}{ratio['value']:>8.3f}"
                f"  [{ratio['low']:.3f}, {ratio['high']:.3f}]"
            )
    return "\n".join(lines)


def _head(report: Report) -> str:
    counts = report["counts"]
    return paragraph(
        "{raters} raters, {pictures_compared} pictures, {ratings_compared} ratings compared, of {tasks} tasks with "
        "{answered} answers. Left out: {too_fast} that were too fast, {of_raters_left_out} of raters who failed the "
        "gold check. ".format_map(counts)
        + f"The design {report['design_id']} was fixed at {report['fixed']} (SHA-256 {report['design_sha256']}). "
        f"Overall is {report['overall_is']}."
    )


def _method(report: Report, method: str) -> str:
    rows = []
    for name, cell in report["methods"][method].items():
        ratio, without = cell["ratio"], cell.get("without_rater", {}).values()
        rows.append([
            name.replace("_", " "), f"{cell['mean']:.3f}", f"{cell['reference_mean']:.3f}", f"{ratio['value']:.1%}",
            f"{ratio['low']:.1%} to {ratio['high']:.1%}", f"{cell['p_holm']:.3f}" if "p_holm" in cell else "",
            f"{min(without):.1%} to {max(without):.1%}" if without else "",
            f"{report['without_exclusions'][method][name]['value']:.1%}",
        ])  # fmt: skip
    head = ["", "mean", report["reference"], "ratio", "interval", "p (Holm)", "without one rater", "without exclusions"]
    return heading(f"{method} against {report['reference']}") + table(head, rows)


def _agreement(report: Report) -> str:
    rows = [
        [name.replace("_", " ")]
        + [f"{of[k]['value']:.2f} ({of[k]['low']:.2f} to {of[k]['high']:.2f})" for k in ("alpha", "ac2")]
        + [" / ".join(map(str, of["scores"]))]
        for name, of in report["agreement"].items()
    ]
    told = "α falls where nearly all scores are alike, though raters agree; AC2 does not. Read both beside the scores."
    return (
        heading("Agreement of raters")
        + table(["", "Krippendorff's α", "Gwet's AC2", "scores 0 / 1 / 2"], rows)
        + paragraph(told)
    )


def _quality(report: Report) -> str:
    again = [[name.replace("_", " "), r["pairs"], f"{r['equal']:.0%}", f"{r['mean_apart']:.2f}"]
             for name, r in ((name, report["repeats"][name]) for name in NAMES)]  # fmt: skip
    gold = [
        [rater, g["answers"], g["failures"], "left out" if g["excluded"] else ""] for rater, g in report["gold"].items()
    ]
    blind = [
        [method, of["answers"]["ai"], of["answers"]["human"], of["answers"]["unsure"], "" if of["excess"] is None else
         f"{of['excess']['value']:+.2f} ({of['excess']['low']:+.2f} to {of['excess']['high']:+.2f})"]
        for method, of in report["blinding"].items()
    ]  # fmt: skip
    return "".join([
        heading("The same picture twice"), table(["", "pairs", "equal", "mean distance"], again),
        heading("Gold answers"), table(["rater", "answers", "failures", ""], gold),
        heading("Was it blind?"), table(["method", "said AI", "said human", "unsure", "right minus wrong"], blind),
        paragraph("0 is a guess, +1 means that raters knew. Asked after all ratings."),
    ])  # fmt: skip
