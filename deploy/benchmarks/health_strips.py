"""Counts and draws what deploy.benchmarks.health_run has seen.

    python -m deploy.benchmarks.health_strips          build/bench/health/*.json → docs/pictures/health.png, and counts

Two numbers for each kind of failure, over all methods and seconds: `false SERVING`, health said SERVING and the call
failed; `false NOT_SERVING`, the reverse. Each is counted raw, and beyond the time that health may take: two polls (the
service's own and that of one service in between) and the second between two looks, for a part that does not answer at
all also the check's timeout. A false SERVING is within that time if the failure has begun so lately, or during the
call; a false NOT_SERVING if a call of the method failed so lately, or fails so soon.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.local.layout import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RUNS = ROOT / "build" / "bench" / "health"
PICTURE = ROOT / "docs" / "pictures" / "health.png"
KINDS = {
    "kill": "killed (SIGKILL), then started again",
    "stop": "stopped (SIGSTOP), then continued",
    "full": "its disk full, then emptied",
    "read-only": "its disk read-only, then writable",
}
LOOK_S = 1.0  # between two calls of a method
CALL_S = 2.0  # that a call takes, at most, while nothing is broken
SERVING, NOT_SERVING, OK, FAILED, BROKEN = "#1a9850", "#d9d9d9", "#a6d96a", "#d73027", "#fee8c8"


@dataclass(frozen=True)
class Counts:
    """Seconds, summed over methods."""

    looked: int
    false_serving: int
    false_serving_beyond: int
    false_not_serving: int
    false_not_serving_beyond: int


def delay_s(run: dict[str, Any], failure: dict[str, Any]) -> float:
    """The time in which health must have noticed."""
    return 2 * float(run["interval_s"]) + LOOK_S + (float(run["timeout_s"]) if failure["hangs"] else 0.0)


def wrong(run: dict[str, Any]) -> dict[str, list[tuple[int, str, bool]]]:
    """Method → seconds in which health and call disagree: when, what health said falsely, whether beyond the delay."""
    limits = [(failure["begin_s"], delay_s(run, failure)) for failure in run["failures"]]
    found: dict[str, list[tuple[int, str, bool]]] = {}
    for method, seconds in run["seen"].items():
        failed = [second["outcome"] != "OK" for second in seconds]
        found[method] = []
        for at, second in enumerate(seconds):
            if second["serving"] and failed[at]:
                lately = any(begin - CALL_S <= at <= begin + limit_s for begin, limit_s in limits)
                found[method].append((at, "SERVING", not lately))
            elif not second["serving"] and not failed[at]:
                limit_s = max([(begin, limit) for begin, limit in limits if begin <= at] or limits[:1])[1]
                near = failed[max(0, at - round(limit_s)) : at + round(limit_s) + 1]
                found[method].append((at, "NOT_SERVING", not any(near)))
    return found


def counts(run: dict[str, Any]) -> Counts:
    """Of one run."""
    each = [one for of_method in wrong(run).values() for one in of_method]
    said = {kind: [beyond for _, what, beyond in each if what == kind] for kind in ("SERVING", "NOT_SERVING")}
    return Counts(
        sum(map(len, run["seen"].values())),
        len(said["SERVING"]),
        sum(said["SERVING"]),
        len(said["NOT_SERVING"]),
        sum(said["NOT_SERVING"]),
    )


def strip(axes: "Axes", seconds: list[bool], top: float, height: float, good: str, bad: str) -> None:
    """One colour a second."""
    for wanted, colour in ((True, good), (False, bad)):
        spans = [(at, 1) for at, said in enumerate(seconds) if said == wanted]
        axes.broken_barh(spans, (top, height), color=colour, lw=0, antialiased=False)


def draw(axes: "Axes", run: dict[str, Any]) -> None:
    """A strip a method: health above, the calls' outcome below; failures as bands."""
    methods = list(run["seen"])
    for failure in run["failures"]:
        axes.axvspan(failure["begin_s"], failure["end_s"], color=BROKEN, lw=0)
        axes.text(failure["begin_s"], -0.35, failure["name"], fontsize=7, va="bottom", rotation=20)
    for row, method in enumerate(methods):
        seconds = run["seen"][method]
        strip(axes, [s["serving"] for s in seconds], row + 0.06, 0.42, SERVING, NOT_SERVING)
        strip(axes, [s["outcome"] == "OK" for s in seconds], row + 0.5, 0.36, OK, FAILED)
    for row, found in enumerate(wrong(run).values()):
        for at, _, beyond in found:
            if beyond:
                axes.plot(at + 0.5, row + 0.5, "kx", ms=4)
    axes.set_ylim(len(methods), -0.4)
    axes.set_yticks([row + 0.46 for row in range(len(methods))], methods, fontsize=8)
    axes.set_xlim(0, max(map(len, run["seen"].values())))
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(KINDS[run["kind"]], loc="left", fontsize=10, pad=30)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    runs = [json.loads(path.read_text()) for kind in KINDS if (path := RUNS / f"{kind}.json").is_file()]
    if not runs:
        sys.exit("nothing to count: run python -m deploy.benchmarks.health_run first")
    print("| the part is | seconds looked | false SERVING | beyond | false NOT_SERVING | beyond |\n" + "|---" * 6 + "|")
    for run in runs:
        n = counts(run)
        print(
            f"| {KINDS[run['kind']]} | {n.looked} | {n.false_serving} | {n.false_serving_beyond} "
            f"| {n.false_not_serving} | {n.false_not_serving_beyond} |"
        )
    import matplotlib  # takes a second to load; --help needs none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(len(runs), 1, figsize=(15, 4.6 * len(runs)), squeeze=False, facecolor="white")
    for axes, run in zip(all_axes[:, 0], runs, strict=True):
        draw(axes, run)
    all_axes[-1, 0].set_xlabel(
        "seconds. Above: health, green SERVING, grey NOT_SERVING. Below: a call, light green OK, red failed. "
        "Bands: broken. ×: they disagree beyond the time that health may take."
    )
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
