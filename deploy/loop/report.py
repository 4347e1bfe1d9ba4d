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
WHOSE = {"seen": "seen merchants", "new": "new merchants", "first_round": "before a merchant's first pick"}
FEWEST = 10  # rounds below which a mean says nothing
FIRST_COLOUR, SECOND_COLOUR, GREY = "#1f6f8b", "#c8553d", "#666666"


def of_release(rounds: Sequence[Shown], release: int, seen: set[str]) -> dict[str, Any]:
    """What a release was worth while it served: whole groups by it alone, without exploration.

    A merchant's own picks move the favours of whatever release serves, so releases that served at different times do
    not compare by true_utility alone: `first_round` is that of rounds before which the merchant had picked nothing.

    Args:
        rounds: all rounds, of all releases.
        seen: merchants whose picks it was trained on.
    """
    first = dict[str, Shown]()
    for shown in rounds:
        first.setdefault(shown.user_id, shown)
    whole = [shown for shown in rounds if shown.arm == "live" and shown.release == release]
    old = [shown for shown in whole if shown.user_id in seen]
    new = [shown for shown in whole if shown.user_id not in seen]
    found: dict[str, Any] = {"release": release, "rounds": len(whole)}
    found |= {name: mean_of(whole, value) for name, value in MEASURES.items()}
    found["true_utility"] = {
        "seen": mean_of(old, MEASURES["true_utility"]),
        "new": mean_of(new, MEASURES["true_utility"]),
        "first_round": mean_of([shown for shown in whole if shown is first[shown.user_id]], MEASURES["true_utility"]),
    }
    return found


def true_difference(rounds: Iterable[Shown], live: int, trial: int) -> dict[str, float] | None:
    """By how much the trial's pictures are worth more than the live release's in groups that both drew."""
    mixed = [shown for shown in rounds if set(shown.drawn_by) == {live, trial}]

    def difference(shown: Shown) -> float:
        by = {
            release: [worth for worth, drawn in zip(shown.utilities, shown.drawn_by, strict=True) if drawn == release]
            for release in (live, trial)
        }
        return float(np.mean(by[trial]) - np.mean(by[live]))

    return mean_of(mixed, difference)


def mean_of(rounds: Sequence[Shown], value: Value) -> dict[str, float] | None:
    """The mean with its 95 % interval over merchants; None of too few rounds."""
    if len(rounds) < FEWEST:
        return None
    _, users = np.unique([shown.user_id for shown in rounds], return_inverse=True)
    values = np.array([[value(shown) for shown in rounds]])
    return {name: round(number, 4) for name, number in interval(*Resampler(users, 2_000).mean(values)).items()}


def of_gate(turn: Turn, rounds: Iterable[Shown] = ()) -> dict[str, Any]:
    """The last verdict of a turn, and the truth beside it; of a candidate that was never exported, no number."""
    last = turn.verdicts.get("traffic") or turn.verdicts.get("offline") or {}
    return {
        "candidate": turn.candidate,
        "turn": turn.number,
        "verdict": turn.outcome,
        "reasons": list(last.get("reasons", ())),
        "e_value": last.get("e_value"),
        "groups": last.get("groups"),
        "true_difference": true_difference(rounds, turn.live, turn.candidate) if turn.candidate else None,
    }


def table(report: dict[str, Any]) -> str:
    """For a reader."""
    lines = [
        f"{'release':>7}  {'rounds':>6}  {'true utility, seen':<22}{'new':<22}{'first round':<22}"
        f"{'prompt accuracy':<22}{'diversity':<22}"
    ]
    for row in report["releases"]:
        of = (*(row["true_utility"][name] for name in WHOSE), row["prompt_accuracy"], row["diversity"])
        lines.append(f"{row['release']:>7}  {row['rounds']:>6}  " + "".join(f"{_said(value):<22}" for value in of))
    lines += [
        f"turn {gate['turn']}: {gate['verdict']}: {'; '.join(gate['reasons'])}; "
        f"true difference in mixed groups: {_said(gate['true_difference'])}"
        for gate in report["gate"]
    ]
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
    for (name, said), colour in zip(WHOSE.items(), (FIRST_COLOUR, SECOND_COLOUR, GREY), strict=True):
        _bars(utility, releases, [row["true_utility"][name] for row in report["releases"]], colour, said)
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
