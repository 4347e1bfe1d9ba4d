"""What it does that orders count beside picks, in simulated shops whose buyers' taste is known.

    python -m lab.shop.order_weight                eight seeds; six minutes on one core; build/eval/order_weight.json
    python -m lab.shop.order_weight --seeds 2 --weights 0 1

In each market the same groups, picks and orders train preference weights as a retraining does, once for each weight W
of orders (training.retraining.orders). Measured are, by merchants that no training saw and by the truth: how well
favours rank what merchants pick and what buyers order (GAUC), the true utility to the merchant of what is picked of
five pictures drawn with the favours' wishes, and the orders which that picture gets. A seed is a market of its own:
merchants, buyers, groups. Intervals are of the mean difference to W = 0 over seeds, by Student's t, 95 %.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.common.commands import attempt, parser_of
from training.common.errors import ModelError

WEIGHTS = (0.0, 0.5, 1.0, 2.0)
FIGURES = ("picks", "orders", "utility", "sales")


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="markets of each kind, at least 2 (default: %(default)s)")
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS, help="W, 0 among them (%(default)s)")
    parser.add_argument("--groups", type=int, default=3_000, help="that train (default: %(default)s)")
    out = Path("build/eval/order_weight.json")
    parser.add_argument("--out", type=Path, default=out, help="the report (default: %(default)s)")
    return parser.parse_args(given)


def run(arguments: argparse.Namespace) -> None:
    """The command.

    Raises:
        ModelError: there is nothing to compare.
    """
    from dataclasses import asdict  # torch takes seconds to load

    import torch

    from lab.shop.demand import Market
    from training.common.reports import write_report

    if arguments.seeds < 2 or 0 not in arguments.weights:
        raise ModelError("at least 2 seeds are needed, and the weight 0 among the weights")
    weights = sorted(set(arguments.weights))
    torch.set_num_threads(1)  # threads that wait for each other cost more than they do for fits as small as these
    markets = {
        "buyers have a taste of their own": Market(groups=arguments.groups),
        "buyers like what the merchant likes": Market(groups=arguments.groups, shared=0.25, common=0, of_style=0),
        "orders are chance": Market(groups=arguments.groups, informative=False),
    }
    report: dict[str, Any] = {"seeds": arguments.seeds, "weights": weights, "markets": {}}
    for name, market in markets.items():
        found = [measured(market, weights, seed) for seed in range(arguments.seeds)]
        report["markets"][name] = {"market": asdict(market), "by_seed": found, "weights": summary(found, weights)}
        write_report(arguments.out, report)
        print(f"{name}\n{as_text(report['markets'][name]['weights'])}", flush=True)
    draw(report, arguments.out.with_suffix(".png"))
    print(f"written to {arguments.out}")


def measured(market: Any, weights: Sequence[float], seed: int) -> dict[str, dict[str, float]]:
    """The figures of one seed's market by weight; all weights learn from the same groups and orders."""
    from lab.history.evaluation import VOCABULARY
    from lab.shop.demand import Buyers, sell, worth
    from training.wishes.fitting import fit

    buyers = Buyers.of(market, seed)
    sold = sell(market, buyers, seed)
    return {
        f"{weight:g}": worth(market, buyers, fit(sold.tags, sold.counting(weight), VOCABULARY).model, seed)
        for weight in weights
    }


def summary(found: Sequence[Mapping[str, Mapping[str, float]]], weights: Sequence[float]) -> dict[str, Any]:
    """Means over seeds, and the differences to W = 0 with their intervals; of sales, as a share of those at W = 0."""
    import numpy as np

    means = dict[str, Any]()
    for key in (f"{weight:g}" for weight in weights):
        means[key] = {}
        for name in FIGURES:
            values, base = (np.array([of[at][name] for of in found]) for at in (key, "0"))
            change = np.log(values / base) if name == "sales" else values - base
            interval = _interval(change)
            if name == "sales":
                interval = {of: float(np.expm1(value)) for of, value in interval.items()}
            means[key][name] = {"mean": float(values.mean()), "change": interval}
    return means


def _interval(values: Any) -> dict[str, float]:
    """The mean with its 95 % interval by Student's t."""
    import numpy as np
    from scipy import stats

    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def as_text(weights: Mapping[str, Any]) -> str:
    """A line for each weight."""
    lines = []
    for weight, of in weights.items():
        told = [f"{of[name]['mean']:.3f} {_change(of[name]['change'], name == 'sales')}" for name in FIGURES]
        lines.append(f"  W {weight:<5}" + "  ".join(f"{n} {t}" for n, t in zip(FIGURES, told, strict=True)))
    return "\n".join(lines)


def _change(of: Mapping[str, float], in_percent: bool) -> str:
    mean, low, high = (f"{of[n]:+.1%}" if in_percent else f"{of[n]:+.3f}" for n in ("mean", "low", "high"))
    return f"({mean}, {low} to {high})"


def draw(report: Mapping[str, Any], picture: Path) -> None:
    """What each weight changes for merchants and for buyers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    titles = {"sales": "orders of what is picked, change in %", "utility": "true utility to the merchant, change"}
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        scale = 100 if name == "sales" else 1
        for market, found in report["markets"].items():
            changes = [found["weights"][f"{weight:g}"][name]["change"] for weight in report["weights"]]
            middle = [scale * of["mean"] for of in changes]
            below, above = ([scale * abs(of[end] - of["mean"]) for of in changes] for end in ("low", "high"))
            panel.errorbar(report["weights"], middle, yerr=(below, above), fmt="o-", capsize=3, label=market)
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set(title=title, xlabel="weight W of orders")
        panel.grid(alpha=0.3)
    panels[0].legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "cannot measure")


if __name__ == "__main__":
    raise SystemExit(main())
