"""Plots of training logs. Knows JSONL rows with a `step`, nothing of what they measure."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot_log(log: Path, picture: Path) -> None:
    """One panel for each logged value against the step, written as a PNG."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = [name for name in rows[-1] if name not in ("step", "s")]
    figure, panels = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], names, strict=True):
        points = [(row["step"], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), linewidth=1)
        panel.set(title=name, xlabel="step")
        panel.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
    plt.close(figure)
