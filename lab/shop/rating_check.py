"""Whether a rating finds what is there: simulated panels of experts whose true ratios are known.

    python -m lab.shop.rating_check                 400 panels with planted ratios, 400 of equal methods; minutes
    python -m lab.shop.rating_check --runs 50

A panel is eight raters and sixty sets, each rated by three. In the planted ones the treated method is worse to
different degrees in the six aspects. Writes how far off the ratios are, how often their 95 % intervals hold the truth,
how often Holm's p finds any difference where there is none, and a picture beside it. Exits with 1 if the intervals of
an aspect hold the truth in fewer than 93 %, or differences are found in more than 5 % of the panels of equals.
"""

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lab.shop.raters import Panel, ratings
from training.common.commands import attempt, parser_of
from training.common.reports import write_report
from training.measurement.errors import MeasurementError
from training.measurement.rating.analysis import compared
from training.measurement.rating.answers import Answer, Rated, answers_of
from training.measurement.rating.designing import documents, planned
from training.measurement.rating.items import Item
from training.measurement.rating.protocol import NAMES, Protocol

HUMAN = (0.7, 1.2, 1.0, 1.1, 1.2, 1.0)  # mean latent quality by aspect
PLANTED = (0.5, 0.8, 0.3, 0.8, 1.1, 1.0)  # of the other method: ratios from .78 to 1
OUT = Path("build/eval/rating.json")
LEAST_COVERAGE = 0.93
MOST_FOUND = 0.05


def design(protocol: Protocol, sets: int = 60, raters: int = 8, seed: int = 0) -> Rated:
    """A design of two methods without pictures."""
    items = [
        Item(f"{method}-{n}", ("coat", "dress")[n % 2], method, Path("none.png"))
        for method in ("human", "perfusion")
        for n in range(sets)
    ]
    plan = planned(items, [f"rater-{n}" for n in range(raters)], protocol, seed)
    sizes, digests = dict.fromkeys(plan.pictures, (1, 1)), dict.fromkeys(plan.pictures, "")
    made = documents(plan, protocol, "human", seed, datetime(2026, 1, 1, tzinfo=UTC), sizes, digests)
    return Rated(*made, protocol)


def firsts(rated: Rated, panel: Panel, quality: dict[str, tuple[float, ...]], rng: np.random.Generator) -> list[Answer]:
    """One panel's first ratings, one in twenty missing."""
    lines = enumerate(ratings(rated, panel, quality, rng, answered=0.95), 1)
    return [answer for answer in answers_of(lines, rated, Path("simulated")) if answer.kind == "first"]


def panels(runs: int, quality: tuple[float, ...], seed: int) -> dict[str, Any]:
    """Ratios and coverage by aspect over so many panels, each with a design of its own."""
    rng, panel = np.random.default_rng(seed), Panel()
    protocol = replace(Protocol(), draws=1_000)
    means = {"human": HUMAN, "perfusion": quality}
    expected = {method: [panel.expected(mean) for mean in of] for method, of in means.items()}
    truth = np.array(expected["perfusion"]) / np.array(expected["human"])
    truths = dict(zip(NAMES, truth, strict=True)) | {"overall": sum(expected["perfusion"]) / sum(expected["human"])}
    found: dict[str, list[list[float]]] = {name: [] for name in truths}
    any_found = []
    for number in tqdm(range(runs), desc="panels", leave=False):
        rated = design(protocol, seed=number)
        cells = compared(rated, firsts(rated, panel, means, rng), leave_out=False)["perfusion"]
        for name, cell in cells.items():
            found[name].append([cell["ratio"][part] for part in ("value", "low", "high")])
        any_found.append(min(cells[name]["p_holm"] for name in NAMES) < 0.05)
    report: dict[str, Any] = {"runs": runs, "any_difference_found": float(np.mean(any_found)), "aspects": {}}
    for name, of in found.items():
        value, low, high = np.array(of).T
        report["aspects"][name] = {
            "truth": float(truths[name]), "mean": float(value.mean()), "deviation": float(value.std(ddof=1)),
            "coverage": float(((low <= truths[name]) & (truths[name] <= high)).mean()),
        }  # fmt: skip
    return report


def run(arguments: argparse.Namespace) -> None:
    planted, equal = (panels(arguments.runs, of, arguments.seed) for of in (PLANTED, HUMAN))
    for title, of in (("planted", planted), ("equal", equal)):
        for name, cell in of["aspects"].items():
            print("{0:<10}{1:<26}truth {truth:.3f} mean {mean:.3f} coverage {coverage:.3f}".format(title, name, **cell))
    print(f"equal methods: a difference found in {equal['any_difference_found']:.1%} of the panels")
    held = [cell["coverage"] for of in (planted, equal) for cell in of["aspects"].values()]
    passed = min(held) >= LEAST_COVERAGE and equal["any_difference_found"] <= MOST_FOUND
    write_report(arguments.out, {"passed": passed, "planted": planted, "equal": equal})
    draw(planted, arguments.out.with_suffix(".png"))
    print(f"{'passed' if passed else 'did NOT pass'}: {arguments.out}")
    if not passed:
        raise MeasurementError("intervals of ratios do not hold the truth often enough, or find what is not there")


def draw(planted: dict[str, Any], picture: Path) -> None:
    """Truth and mean by aspect, and the coverage."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (ratio, cover) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    cells = planted["aspects"]
    places = range(len(cells))
    spread = [1.96 * cell["deviation"] for cell in cells.values()]
    ratio.errorbar(
        [cell["mean"] for cell in cells.values()], places, xerr=spread, fmt="o", label="found ± 1.96 deviations"
    )
    ratio.plot([cell["truth"] for cell in cells.values()], places, "kx", label="planted")
    cover.plot([100 * cell["coverage"] for cell in cells.values()], places, "o")
    cover.axvline(95, color="grey", linestyle=":")
    ratio.set(title="ratio of mean scores", yticks=places, yticklabels=[name.replace("_", " ") for name in cells])
    cover.set(title="95 % intervals that hold the truth, %", yticks=places, yticklabels=[])
    ratio.legend()
    for axis in (ratio, cover):
        axis.invert_yaxis()
        axis.grid(alpha=0.3)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=400, help="panels of each kind (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return attempt(partial(run, parser.parse_args()), "the rating's intervals are not what they say")


if __name__ == "__main__":
    raise SystemExit(main())
