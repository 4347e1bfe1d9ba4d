"""The race's arithmetic: CPU-seconds a picture, ratios of what was measured in the same turn, and the table.

Knows numbers and names; neither processes nor pictures.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

DRAWS = 10_000


@dataclass(frozen=True)
class Block:
    """Some rounds of one contestant, in one turn."""

    pictures: int
    cpu_s: float  # of the contestant's processes
    wall_s: float
    client_cpu_s: float = 0.0  # of who asked

    def without(self, idle_cores: float) -> "Block":
        """The same less what its processes take while nobody asks."""
        return replace(self, cpu_s=self.cpu_s - idle_cores * self.wall_s)


def ratio(over: Sequence[Block], under: Sequence[Block]) -> dict[str, float]:
    """How many times the CPU of `under` a picture of `over` takes: the median over turns, with a 95 % interval.

    Blocks of one place were measured in the same turn. The interval is a bootstrap over turns.
    """
    pairs = np.array([_cost(a) / _cost(b) for a, b in zip(over, under, strict=True)])
    draws = np.random.default_rng(20_261).integers(len(pairs), size=(DRAWS, len(pairs)))
    low, high = np.percentile(np.median(pairs[draws], axis=1), [2.5, 97.5])
    return {"ratio": float(np.median(pairs)), "low": float(low), "high": float(high)}


def _cost(block: Block) -> float:
    return block.cpu_s / block.pictures


def summary(blocks: Sequence[Block]) -> dict[str, float]:
    """Medians over turns."""
    return {
        "cpu_s_a_picture": statistics.median(_cost(block) for block in blocks),
        "pictures_a_second": statistics.median(block.pictures / block.wall_s for block in blocks),
        "client_cores": statistics.median(block.client_cpu_s / block.wall_s for block in blocks),
    }


def compared(
    blocks: Mapping[str, Sequence[Block]], base: str, idle_cores: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Every contestant's medians, its cost over the base's, and what it takes while nobody asks."""
    return {
        name: summary(own) | {"over_base": ratio(own, blocks[base]), "idle_cores": idle_cores.get(name, 0.0)}
        for name, own in blocks.items()
    }


def best(found: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """The one of these whose pictures take the least CPU."""
    return min((name for name in names if name in found), key=lambda name: float(found[name]["cpu_s_a_picture"]))


def told(of: Mapping[str, float]) -> str:
    """A ratio for a reader: 1.23 [1.20, 1.26]."""
    return f"{of['ratio']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"


def table(report: Mapping[str, Any]) -> str:
    """The whole report for a reader."""
    lines = []
    for clients, found in report["clients"].items():
        lines += [
            "",
            f"{clients} at once{'CPU ms a picture':>41}   {'over ours plain':>18}   pictures/s   idle cores   client's",
        ]
        for name, row in sorted(found.items(), key=lambda item: float(item[1]["cpu_s_a_picture"])):
            lines.append(
                f"{name:<34} {1000 * row['cpu_s_a_picture']:15.1f}   {told(row['over_base']):>18}   "
                f"{row['pictures_a_second']:10.2f}   {row['idle_cores']:10.3f}   {row['client_cores']:8.2f}"
            )
    lines += ["", "goal" + " " * 61 + "aim      reached"]
    lines += [f"{goal['what']:<64} {goal['aim']:<8} {told(goal)}" for goal in report["goals"]]
    lines += ["", *(f"{name}: {why}" for name, why in report["not_run"].items())]
    lines += [
        f"{name}: its pictures differ by {found['most']} levels of 255 at most, {found['mean']:.4f} in the mean"
        for name, found in report["same_pictures"].items()
    ]
    return "\n".join(lines)
