"""The A/A gate of the lift's estimators: simulated shops whose lift is known, a thousand of each kind.

    python -m lab.shop.lift_check                     1,000 shops of each gated kind; minutes on one core
    python -m lab.shop.lift_check --runs 100 --out build/eval/quick.json

Passes if, in shops without a lift and in shops with one of 13 %, the primary estimator is off by half a percent point
at most on average, and its 95 % intervals hold the truth in 93 to 97 % of the shops. The estimator by viewers has a
gate of its own, alike. Beside it stand the pooled estimator and the paper's, what each finds in stores of 10, 20, 50
and 200 clicks where there is nothing to find, shops that are hard (few items, few clicks, few stores, stores that
choose what to treat), shops simulated event by event, and a comparison that is confounded by position and age. Writes
the gate's report, which `python -m training.measurement.lift analyse` asks for, and a picture beside it. Exits with 1
if the gate does not pass.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from training.common.commands import attempt, parser_of
from training.measurement.errors import MeasurementError
from training.measurement.lift.gate import GATE, write_gate


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="shops of each gated kind (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=GATE, help="the gate's report (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


def run(arguments: argparse.Namespace) -> None:
    from lab.shop.trials import CLICKS, CROWDS, SCENARIOS, nothing_at_all, passes, trial, viewer_trial

    found: dict[str, Any] = {}
    for name, scenario in SCENARIOS.items():
        runs = arguments.runs if scenario.gated else max(2, arguments.runs // 3)
        found[name] = trial(scenario, runs, arguments.seed)
        print(line(name, found[name]), flush=True)
    nothing = [nothing_at_all(clicks, arguments.runs, seed=arguments.seed) for clicks in CLICKS]
    for of in nothing:
        print(f"{of['clicks']:>4} clicks a store, no lift: paper {of['paper']:+.1%}, primary {of['primary']:+.1%}")
    beside = _events(max(2, arguments.runs // 20), arguments.seed)
    crowds = {
        name: viewer_trial(crowd, says, gated, arguments.runs, arguments.seed)
        for name, (crowd, says, gated) in CROWDS.items()
    }
    for name, of in crowds.items():
        print(viewer_line(name, of), flush=True)
    passed = all(passes(of) for of in found.values() if of["gated"])
    crowds_passed = all(passes(of) for of in crowds.values() if of["gated"])
    by_viewer = {"passed": crowds_passed, "says": viewer_summary(crowds, arguments.runs), "crowds": crowds}
    findings = {"scenarios": found, "nothing_at_all": nothing, "event_by_event": beside}
    write_gate(arguments.out, passed, {"says": summary(found, arguments.runs)} | findings, by_viewer)
    draw(found, nothing, arguments.out.with_suffix(".png"))
    print(f"the gate {'passed' if passed and crowds_passed else 'did NOT pass'}: {arguments.out}")
    if not passed:
        raise MeasurementError("the primary estimator is biased, or its intervals are not what they say")
    if not crowds_passed:
        raise MeasurementError("the estimator by viewers is biased, or its intervals are not what they say")


def _events(runs: int, seed: int) -> dict[str, Any]:
    """Shops simulated event by event: one with a planted lift, and one where arms differ in place and age alone."""
    from lab.shop.events import Visits
    from lab.shop.trials import event_by_event

    shops = {"planted": Visits(stores=60, lift=0.13), "confounded": Visits(stores=60, ahead=0.25, younger=0.5)}
    beside = {name: event_by_event(visits, runs, seed) for name, visits in shops.items()}
    for name, found in beside.items():
        for how in ("plain", "adjusted"):
            print(line(f"events, {name}, {how}", found[how]), flush=True)
    return beside


def summary(found: dict[str, Any], runs: int) -> str:
    """The gated scenarios in one sentence."""
    return f"the primary estimator in {runs} shops of each kind: {_gated(found)}"


def viewer_summary(found: dict[str, Any], runs: int) -> str:
    """The same of the crowds."""
    return f"the estimator by viewers in {runs} crowds of each kind: {_gated(found)}"


def _gated(found: dict[str, Any]) -> str:
    return "; ".join(
        f"{of['says']}: bias {of['primary']['bias']:+.2%}, coverage {of['primary']['coverage']:.1%}"
        for of in found.values()
        if of["gated"]
    )


def viewer_line(name: str, of: dict[str, Any]) -> str:
    """One crowd as a line."""
    own = of["primary"]
    return (
        f"{name:<28}bias {own['bias']:+7.2%} ± {own['bias_error']:.2%}, cover {own['coverage']:.3f}, each event by "
        f"itself {of['every_event_by_itself']['coverage']:.3f}, design effect {of['design_effect']:.1f}"
    )


def line(name: str, of: dict[str, Any]) -> str:
    """One scenario as a line."""
    told = " ".join(f"{n} {of[n]['bias']:+7.2%} cover {of[n]['coverage']:.3f}" for n in ("primary", "pooled", "paper"))
    return f"{name:<28}{of['stores']:>5.0f} stores  {told}  ± {of['primary']['bias_error']:.2%}"


def draw(found: dict[str, Any], nothing: list[dict[str, Any]], picture: Path) -> None:
    """Bias and coverage by scenario, and the bias by clicks a store."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (bias, cover, by_clicks) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for n, estimator in enumerate(("primary", "pooled", "paper")):
        places = [place + 0.2 * (n - 1) for place in range(len(found))]
        of = [scenario[estimator] for scenario in found.values()]
        errors = [1.96 * 100 * one["bias_error"] for one in of]
        bias.errorbar([100 * one["bias"] for one in of], places, xerr=errors, fmt="o", markersize=4, label=estimator)
        cover.plot([100 * one["coverage"] for one in of], places, "o", markersize=4)
        points = [(one["clicks"], 100 * one[estimator]) for one in nothing]
        by_clicks.plot(*zip(*points, strict=True), ("o-", "x--", "s-")[n], label=estimator)
    cover.axvspan(93, 97, color="grey", alpha=0.2)
    names = [
        f"{name.replace('a_a', 'A/A').replace('_', ' ')}{' *' if of['gated'] else ''}" for name, of in found.items()
    ]
    bias.set(title="bias, in percent points (* gated)", yticks=range(len(names)), yticklabels=names)
    cover.set(title="95 % intervals that hold the truth, %", yticks=range(len(names)), yticklabels=[])
    by_clicks.set(title="lift found where there is none, %", xlabel="clicks of an arm in a store", xscale="log")
    by_clicks.set_xticks([one["clicks"] for one in nothing], [str(one["clicks"]) for one in nothing])
    by_clicks.minorticks_off()
    for axis in (bias, cover):
        axis.invert_yaxis()
    for axis in (bias, cover, by_clicks):
        axis.grid(alpha=0.3)
    by_clicks.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "the gate is closed")


if __name__ == "__main__":
    raise SystemExit(main())
