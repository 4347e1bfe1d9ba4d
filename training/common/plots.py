"""Plots of training logs and of reports. Knows named numbers; does not know what they measure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot_log(log: Path, picture: Path) -> None:
    """One panel for each logged value against the step, written as a PNG."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = [name for name in rows[-1] if name not in ("step", "s")]
    figure, panels = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], names, strict=True):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        panel.plot(*zip(*points, strict=True), linewidth=1)
        panel.set(title=name, xlabel="step")
        panel.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


Interval = Mapping[str, float]  # mean, low, high


def plot_intervals(
    panels: Mapping[str, Mapping[str, Interval]], marks: Mapping[str, Mapping[str, float]], picture: Path
) -> None:
    """A panel for each set: its rows as points with intervals, its `marks` as vertical lines with their names.

    An interval need not hold its point, and may be NaN.
    """
    rows = max(len(panel) for panel in panels.values())
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), max(3.0, 1.2 + 0.3 * rows)), squeeze=False, layout="constrained"
    )
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for place, found in enumerate(panel.values()):
            (point,) = axis.plot(found["mean"], place, "o", markersize=4)
            middle, half = (found["low"] + found["high"]) / 2, abs(found["high"] - found["low"]) / 2
            axis.errorbar(middle, place, xerr=half, fmt="none", capsize=3, color=point.get_color())
        for name, value in marks.get(title, {}).items():
            axis.axvline(value, color="grey", linewidth=1, linestyle=":")
            inside = {"transform": axis.get_xaxis_transform(), "ha": "right", "va": "bottom", "in_layout": False}
            axis.text(value, 0.02, name, rotation=90, fontsize=7, color="grey", **inside)
        axis.set(title=title, yticks=range(len(panel)), yticklabels=list(panel))
        axis.invert_yaxis()
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def plot_lines(lines: Mapping[str, Sequence[tuple[float, Interval]]], x: str, y: str, picture: Path) -> None:
    """Each line's points with whiskers."""
    figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, points in lines.items():
        places, found = zip(*points, strict=True)
        whiskers = [[f["mean"] - f["low"] for f in found], [f["high"] - f["mean"] for f in found]]
        axis.errorbar(places, [f["mean"] for f in found], yerr=whiskers, fmt="o-", markersize=4, capsize=3, label=name)
    axis.set(xlabel=x, ylabel=y)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def plot_grid(columns: Mapping[str, np.ndarray], rows: Sequence[str], picture: Path) -> None:
    """Pictures (R, H, W, 3) side by side under their columns' names, each row under its own text."""
    shape = {"figsize": (1.25 * len(columns), 1.4 * len(rows) + 0.3), "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(rows), len(columns), **shape)
    for column, (name, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(name, fontsize=8, pad=18)
        for axis, shown in zip(axes[:, column], pictures, strict=True):
            axis.imshow(shown, interpolation="nearest")
            axis.set_axis_off()
    for axis, text in zip(axes[:, 0], rows, strict=True):
        axis.text(0, 1.04, text, transform=axis.transAxes, fontsize=7, color="grey", in_layout=False)
    figure.savefig(picture, dpi=100)
    plt.close(figure)
