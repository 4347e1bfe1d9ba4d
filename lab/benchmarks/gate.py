"""How often the traffic gate promotes: equal releases, better and worse ones, and merchants who differ.

    python -m lab.benchmarks.gate            minutes on one core

Plays the gate's bets (training.retraining.betting) on simulated mixed groups, looking after every group, and beside
them bets that multiply over all groups, whosever they are. A merchant picks one of five candidates, sometimes two, by a
logit: the quality of each candidate, what the first places gain, and the merchant's liking for the trial. Few merchants
have most groups. Liking has a mean, which is the trial's true gain, and a spread over merchants. Writes
build/bench/gate.json and gate.png: the share of trials promoted and rolled back, and after how many groups.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lab.benchmarks.options import write
from training.common.commands import parser_of
from training.retraining.betting import STAKES, Bets, beyond_share
from training.retraining.traffic_gate import TrafficLimits

SHOWN = 5
QUALITY = 1.5  # deviation of the candidates of a group, in units of a pick's noise
PLACE = 0.5  # what a place loses against the one before it
PICKS_TWO = 0.1


@dataclass(frozen=True)
class Trial:
    """What is tried: the mean gain in utility, and its deviation over merchants."""

    gain: float
    spread: float

    def __str__(self) -> str:
        return f"gain {self.gain:g}, spread {self.spread:g}"


TRIALS = (Trial(0, 0), Trial(0, 1), Trial(0.3, 0), Trial(0.3, 0.5), Trial(0.5, 0.5), Trial(1, 0.5), Trial(-0.5, 0.5))


def mixed_groups(trial: Trial, groups: int, merchants: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The merchant of each group (N,), and what the trial got beyond its share (N,)."""
    rng = np.random.default_rng(seed)
    often = 1 / np.arange(1, merchants + 1) ** 0.7
    who = rng.choice(merchants, groups, p=often / often.sum())
    likes = trial.gain + trial.spread * rng.normal(size=merchants)
    of_trial = rng.integers(SHOWN // 2, SHOWN // 2 + 2, groups)
    on_trial = rng.random((groups, SHOWN)).argsort(1) < of_trial[:, None]  # (N, K)
    utility = QUALITY * rng.normal(size=(groups, SHOWN)) - PLACE * np.arange(SHOWN) + on_trial * likes[who][:, None]
    best = np.take_along_axis(on_trial, (-(utility + rng.gumbel(size=utility.shape))).argsort(1), 1)
    picks = 1 + (rng.random(groups) < PICKS_TWO)
    picked = best[:, 0] + np.where(picks == 2, best[:, 1], 0)
    return who, np.array([beyond_share(m, SHOWN, t, s) for m, t, s in zip(of_trial, picked, picks, strict=True)])


def decided(who: np.ndarray, beyond: np.ndarray, limits: TrafficLimits) -> tuple[str, int]:
    """What the gate says when it looks after every group, and after how many."""
    bets = Bets()
    for number, (merchant, x) in enumerate(zip(who.tolist(), beyond.tolist(), strict=True), 1):
        bets.add(str(merchant), x)
        if bets.worse >= limits.roll_back_at:
            return "roll back", number
        if bets.better >= limits.promote_at:
            return "promote", number
    return "undecided", len(who)


def by_group(beyond: np.ndarray, limits: TrafficLimits) -> bool:
    """Whether bets that do not know merchants ever promote."""
    return bool((np.exp(np.log1p(np.outer(beyond, STAKES)).cumsum(0)).mean(1) >= limits.promote_at).any())


def play(trial: Trial, merchants: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Many trials of this kind."""
    limits, found, unclustered = TrafficLimits(), list[tuple[str, int]](), 0
    for run in tqdm(range(arguments.trials), desc=f"{trial}, {merchants} merchants", mininterval=5):
        who, beyond = mixed_groups(trial, arguments.groups, merchants, (run, merchants))
        found.append(decided(who, beyond, limits))
        unclustered += by_group(beyond, limits)
    after = sorted(number for verdict, number in found if verdict == "promote")
    return {
        "gain": trial.gain, "spread": trial.spread, "merchants": merchants, "trials": len(found),
        "promoted": len(after) / len(found),
        "rolled_back": sum(verdict == "roll back" for verdict, _ in found) / len(found),
        "groups_to_promotion": {"median": float(np.median(after)), "of_nine_in_ten": after[int(0.9 * len(after))]}
        if after else None,
        "promoted_by_bets_over_groups": unclustered / len(found),
        "promoted_after": after,
    }  # fmt: skip


def share(after: list[int], trials: int, groups: int) -> Mapping[str, float]:
    """The share promoted by then, with Wilson's 95 % interval."""
    p, z = sum(number <= groups for number in after) / trials, 1.96
    centre, width = p + z**2 / (2 * trials), z * (p * (1 - p) / trials + z**2 / (4 * trials**2)) ** 0.5
    low, high = ((centre + sign * width) / (1 + z**2 / trials) for sign in (-1, 1))
    return {"mean": p, "low": min(low, p), "high": max(high, p)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--trials", type=int, default=200, help="of each kind (default: %(default)s)")
    parser.add_argument("--groups", type=int, default=3_000, help="mixed groups of each (default: %(default)s)")
    parser.add_argument("--merchants", type=int, nargs="+", default=[40, 200], help="(default: 40 200)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/gate.json"), help="(default: %(default)s)")
    arguments = parser.parse_args()

    from training.common.plots import plot_lines  # takes a second to load; --help needs none

    rows = [play(trial, merchants, arguments) for merchants in arguments.merchants for trial in TRIALS]
    marks = np.linspace(arguments.groups / 10, arguments.groups, 10).astype(int).tolist()
    lines = {
        str(trial): [(mark, share(row["promoted_after"], row["trials"], mark)) for mark in marks]
        for trial, row in zip(TRIALS, rows[-len(TRIALS) :], strict=True)
    }
    write({"groups": arguments.groups, "rows": rows}, arguments.out)
    plot_lines(
        lines, f"mixed groups of {arguments.merchants[-1]} merchants", "promoted", arguments.out.with_suffix(".png")
    )


if __name__ == "__main__":
    main()
