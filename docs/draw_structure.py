"""Draws docs/pictures/structure.png: the parts, their floors, and who may import whom.

    python docs/draw_structure.py

The floors are read from import-linter's contracts in pyproject.toml, which `make lint` holds, so that picture and rule
cannot differ. A floor imports what is below it in its part, and what the arrows allow.
"""

import tomllib
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
INK, PAPER = "#1d1d1f", "#ffffff"
COLOURS = {"services": "#dbeafe", "training": "#dcfce7", "lab": "#fef3c7", "contract": "#fee2e2", "deploy": "#ede9fe"}
SAYS = {
    "services": "services/\ngRPC, no torch",
    "training": "training/\nwhat a team runs on its own data",
    "lab": "lab/\neverything that needs the truth",
    "contract": "contract/   protos/   model_repository/\nwhat both halves agree on: rules, messages, tensors",
    "deploy": "deploy/   runs and shows all of it",
}
LEFT = {"services": 0.0, "training": 3.5, "lab": 7.0}
WIDTH, FLOOR, GAP, BOTTOM = 3.1, 0.62, 0.12, 2.0


def layers(contracts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """By part, its floors from the top; parts on one floor do not import each other."""
    return {c["containers"][0]: c["layers"] for c in contracts if c["type"] == "layers"}


def wrapped(floor: str) -> str:
    """The rooms of a floor, in two lines where one is too short."""
    rooms = floor.split(" | ")
    half = len(rooms) if len(floor) < 36 else (len(rooms) + 1) // 2
    return "\n".join("   |   ".join(part) for part in (rooms[:half], rooms[half:]) if part)


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str, size: int) -> None:
    """One room with its name in the middle."""
    axes.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0.02", facecolor=colour, edgecolor=INK, lw=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """May import."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4})


def main() -> None:
    found = layers(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"])
    figure, axes = plt.subplots(figsize=(11, 6.6), facecolor=PAPER)
    highest = BOTTOM + max(map(len, found.values())) * (FLOOR + GAP)
    for part, left in LEFT.items():
        height = len(found[part]) * (FLOOR + GAP) + 1.0
        axes.add_patch(FancyBboxPatch((left, BOTTOM), WIDTH, height, "round,pad=0.05", facecolor="none", edgecolor=INK))
        axes.text(left + WIDTH / 2, BOTTOM + height - 0.42, SAYS[part], ha="center", va="center", fontsize=10)
        for number, floor in enumerate(reversed(found[part])):
            y = BOTTOM + 0.1 + number * (FLOOR + GAP)
            box(axes, left + 0.12, y, WIDTH - 0.24, FLOOR, COLOURS[part], wrapped(floor), 8)
        if part != "lab":
            arrow(axes, (left + WIDTH / 2, BOTTOM - 0.08), (left + WIDTH / 2, 1.32))
    arrow(axes, (LEFT["lab"] - 0.08, BOTTOM + 1.2), (LEFT["training"] + WIDTH + 0.08, BOTTOM + 1.2))
    arrow(axes, (LEFT["lab"] + WIDTH / 2, BOTTOM - 0.08), (LEFT["lab"] + WIDTH / 2, 1.32))
    box(axes, 0, 0.4, LEFT["lab"] + WIDTH, 0.85, COLOURS["contract"], SAYS["contract"], 10)
    box(axes, 0, highest + 1.35, LEFT["lab"] + WIDTH, 0.6, COLOURS["deploy"], SAYS["deploy"], 10)
    axes.text(0, 0.1, "An arrow, and a lower floor of the same part, may be imported. Nothing else is.", fontsize=8)
    axes.set_xlim(-0.2, LEFT["lab"] + WIDTH + 0.2)
    axes.set_ylim(0, highest + 2.1)
    axes.axis("off")
    path = ROOT / "docs" / "pictures" / "structure.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
