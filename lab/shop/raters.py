"""Simulated experts: pictures with a true quality, raters with a taste, a severity and noise; the true ratio is known.

A score is where quality + severity + noise falls between two thresholds. The truth of a method and aspect is its
expected score over all pictures and raters that the simulation could draw, by quadrature. Knows chances; no pictures.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from training.measurement.rating.answers import Rated
from training.measurement.rating.protocol import NAMES

THRESHOLDS = (-0.9, 0.1)  # between poor and average, average and good


@dataclass(frozen=True)
class Panel:
    """Deviations of what varies, in units of the latent scale."""

    picture: float = 0.7  # quality among pictures of a method
    rater: float = 0.4  # severity among raters
    taste: float = 0.25  # how much a rater likes a method beyond others
    noise: float = 0.7  # of one answer
    careless: tuple[str, ...] = ()  # raters who answer by chance, and fast
    detects: float = 0.0  # chance beyond a guess that a rater knows who made a picture

    def expected(self, mean: float) -> float:
        """The expected score of a method whose pictures have this mean quality."""
        spread = float(np.sqrt(self.picture**2 + self.rater**2 + self.taste**2 + self.noise**2))
        return float(sum(1 - NormalDist(mean, spread).cdf(threshold) for threshold in THRESHOLDS))


def ratings(
    rated: Rated, panel: Panel, quality: Mapping[str, Sequence[float]], rng: np.random.Generator, answered: float = 1.0
) -> list[dict[str, Any]]:
    """Lines of ratings.jsonl; a task is answered with the chance `answered`.

    Args:
        quality: method → mean quality by aspect, in the order of NAMES.
    """
    secret = rated.key["pictures"]
    true = {
        name: np.asarray(quality.get(told["method"], [0.0] * len(NAMES))) + panel.picture * rng.normal(size=len(NAMES))
        for name, told in sorted(secret.items())
    }
    time = datetime(2026, 1, 5, 9, tzinfo=UTC)
    lines = []
    for rater in rated.design["raters"]:
        severity = panel.rater * rng.normal(size=len(NAMES))
        liking = {method: panel.taste * rng.normal(size=len(NAMES)) for method in rated.key["methods"]}
        careless = rater["rater_id"] in panel.careless
        for task in rater["tasks"]:
            told = secret[task["picture"]]
            felt = (
                true[task["picture"]]
                + severity
                + liking.get(told["method"], 0)
                + panel.noise * rng.normal(size=len(NAMES))
            )
            given = rng.integers(3, size=len(NAMES)) if careless else np.searchsorted(THRESHOLDS, felt)
            if told["gold"] and not careless:
                given = np.array(
                    [(told["gold"].get(name) or [score])[0] for name, score in zip(NAMES, given, strict=True)]
                )
            answers: dict[str, Any] = {name: int(score) for name, score in zip(NAMES, given, strict=True)}
            if task["kind"] == "origin":
                truth = "human" if told["method"] == rated.key["reference"] else "ai"
                knows = rng.random() < panel.detects
                answers = {"origin": truth if knows else str(rng.choice(["ai", "human"]))}
            time += timedelta(seconds=10)
            if rng.random() < answered:
                lines.append({
                    "design_id": rated.design["design_id"], "rater_id": rater["rater_id"], "task_id": task["task_id"],
                    "answers": answers, "dwell_ms": int(rng.integers(5_000, 20_000)), "time": time.isoformat(),
                })  # fmt: skip
    return lines


def write_ratings(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """ratings.jsonl."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
