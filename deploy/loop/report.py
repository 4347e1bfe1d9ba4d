"""What a loop showed: report.json, its pictures, and a printed table, all from the files that it left.

Knows the form of rounds and turns; runs nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from deploy.loop.records import Shown
from deploy.loop.turn import Turn
from training.common.resampling import Resampler, interval

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Value = Callable[[Shown], float]
MEASURES: dict[str, Value] = {
    "true_utility": lambda shown: float(np.mean(shown.utilities)),
    "prompt_accuracy": lambda shown: float(np.mean(shown.prompt_accuracy)),
    "diversity": lambda shown: shown.diversity,
}
FEWEST = 10  # rounds below which a mean says nothing
FIRST_COLOUR, SECOND_COLOUR, GREY = "#1f6f8b", "#c8553d", "#666666"


def of_release(rounds: Iterable[Shown], release: int, seen: set[str]) -> dict[str, Any]:
    """What a release was worth while it served: whole groups by it alone, without exploration.

    Args:
        seen: merchants whose picks it was trained on.
    """
    whole = [shown for shown in rounds if shown.arm == "live" and shown.release == release]
    old = [shown for shown in whole if shown.user_id in seen]
    new = [shown for shown in whole if shown.user_id not in seen]
    found: dict[str, Any] = {"release": release, "rounds": len(whole)}
    found |= {name: mean_of(whole, value) for name, value in MEASURES.items()}
    found["true_utility"] = {
        "seen": mean_of(old, MEASURES["true_utility"]),
        "new": mean_of(new, MEASURES["true_utility"]),
    }
    return found


def mean_of(rounds: Sequence[Shown], value: Value) -> dict[str, float] | None:
    """The mean with its 95 % interval over merchants; None of too few rounds."""
    if len(rounds) < FEWEST:
        return None
    _, users = np.unique([shown.user_id for shown in rounds], return_inverse=True)
    values = np.array([[value(shown) for shown in rounds]])
    return {name: round(number, 4) for name, number in interval(*Resampler(users, 2_000).mean(values)).items()}


def of_gate(turn: Turn) -> dict[str, Any]:
    """The last verdict of a turn; of a candidate that was refused before it was exported, no number."""
    last = turn.verdicts.get("traffic") or turn.verdicts.get("offline") or {}
    return {
        "candidate": turn.candidate,
        "turn": turn.number,
        "verdict": turn.outcome,
        "reasons": list(last.get("reasons", ())),
        "e_value": last.get("e_value"),
        "groups": last.get("groups"),
    }


def table(report: dict[str, Any]) -> str:
    """For a reader."""
    lines = [
        f"{'release':>7}  {'rounds':>6}  {'true utility, seen':<22}{'new':<22}{'prompt accuracy':<22}{'diversity':<22}"
    ]
    for row in report["releases"]:
        of = (row["true_utility"]["seen"], row["true_utility"]["new"], row["prompt_accuracy"], row["diversity"])
        lines.append(f"{row['release']:>7}  {row['rounds']:>6}  " + "".join(f"{_said(value):<22}" for value in of))
    lines += [f"turn {gate['turn']}: {gate['verdict']}: {'; '.join(gate['reasons'])}" for gate in report["gate"]]
    lines.append(
        f"requests: {report['requests']}, failed: {report['failed_requests']}; rollback: {report['rollback_s']} s"
    )
    lines += [
        f"{part} killed: {', '.join(f'{count} {what}' for what, count in cost.items())}"
        for part, cost in report["faults"].items()
    ]
    return "\n".join(lines)


def draw(report: dict[str, Any], turns: Sequence[Turn], path: Path) -> None:
    """True utility and diversity by release, and each trial's e-value over its mixed groups."""
    figure, (utility, e_value, diversity) = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    releases = [row["release"] for row in report["releases"]]
    for name, colour in (("seen", FIRST_COLOUR), ("new", SECOND_COLOUR)):
        _bars(utility, releases, [row["true_utility"][name] for row in report["releases"]], colour, f"{name} merchants")
    utility.set(title="True utility of whole groups", xlabel="release", xticks=releases)
    utility.legend(frameon=False)
    _bars(diversity, releases, [row["diversity"] for row in report["releases"]], GREY, "")
    diversity.set(title="Diversity within a group", xlabel="release", xticks=releases)
    diversity.set_ylim(bottom=0)
    for turn in turns:
        if turn.e_values:
            e_value.plot(
                *zip(*turn.e_values, strict=True), marker=".", label=f"release {turn.candidate}: {turn.outcome}"
            )
    e_value.axhline(20, color=GREY, linestyle=":", linewidth=1)
    e_value.set(title="Evidence that a trial is better", xlabel="mixed groups", ylabel="e-value", yscale="log")
    if e_value.lines[1:]:
        e_value.legend(frameon=False)
    for axes in (utility, e_value, diversity):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(
    axes: Any, releases: Sequence[int], found: Sequence[dict[str, float] | None], colour: str, label: str
) -> None:
    known = [(release, value) for release, value in zip(releases, found, strict=True) if value]
    if not known:
        return
    at = [release for release, _ in known]
    mean = np.array([value["mean"] for _, value in known])
    spread = [mean - [value["low"] for _, value in known], [value["high"] for _, value in known] - mean]
    axes.errorbar(at, mean, yerr=spread, color=colour, marker="o", capsize=3, label=label)


def _said(value: dict[str, float] | None) -> str:
    return "-" if value is None else f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
