"""The analysis of a rating as its protocol fixed it: exclusions, ratios, agreement, repeats, and whether it was blind.

Left out are: answers given faster than the minimum dwell, and all answers of raters who failed too many gold answers.
Repeats count for the raters' agreement with themselves and nothing else; gold pictures for nothing but the gold check.
The ratios without any exclusion stand beside. Knows answers; draws and writes nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.measurement.errors import MeasurementError
from training.measurement.rating.agreement import counts_of, intervals
from training.measurement.rating.answers import Answer, Rated
from training.measurement.rating.protocol import NAMES, OVERALL
from training.measurement.rating.ratios import Scores, ratios
from training.measurement.resampling import draw_counts, holm, p_value, percentiles

Report = dict[str, Any]
_SEED = 20_261  # of the draws; the protocol says how many


def analysed(rated: Rated, answers: Sequence[Answer]) -> Report:
    """The report as JSON values.

    Raises:
        MeasurementError: nothing is left to compare.
    """
    gold = gold_check(rated, answers)
    out = {rater for rater, found in gold.items() if found["excluded"]}
    slow = [answer for answer in answers if answer.dwell_ms >= rated.protocol.min_dwell_ms or answer.kind == "origin"]
    kept = [answer for answer in slow if answer.rater_id not in out]
    rates = [answer for answer in kept if answer.kind == "first"]
    if not rates:
        raise MeasurementError("no rating is left: all were too fast, or their raters failed the gold check")
    return {
        "design_id": rated.design["design_id"],
        "design_sha256": rated.key["design_sha256"],
        "fixed": rated.design["created"],
        "reference": rated.key["reference"],
        "overall_is": OVERALL,
        "counts": _counts(rated, answers, slow, kept),
        "gold": gold,
        "methods": compared(rated, rates),
        "without_exclusions": {
            method: {aspect: cell["ratio"] for aspect, cell in of.items()}
            for method, of in compared(rated, [a for a in answers if a.kind == "first"], leave_out=False).items()
        },
        "agreement": agreement(rated, rates),
        "repeats": repeats(kept),
        "blinding": blinding(rated, [answer for answer in kept if answer.kind == "origin"]),
    }


def gold_check(rated: Rated, answers: Sequence[Answer]) -> dict[str, Report]:
    """By rater: gold answers, how many were not among the allowed, whether the rater is left out for it."""
    found: dict[str, Report] = {r["rater_id"]: {"answers": 0, "failures": 0} for r in rated.design["raters"]}
    for answer in answers:
        if answer.kind == "gold":
            allowed = rated.key["pictures"][answer.picture]["gold"]
            for aspect, scores in allowed.items():
                score = answer.scores[NAMES.index(aspect)]
                found[answer.rater_id]["answers"] += bool(np.isfinite(score))
                found[answer.rater_id]["failures"] += bool(np.isfinite(score) and score not in scores)
    for told in found.values():
        told["excluded"] = told["failures"] > rated.protocol.max_gold_failures * told["answers"]
    return found


def _counts(rated: Rated, answers: Sequence[Answer], slow: Sequence[Answer], kept: Sequence[Answer]) -> Report:
    asked = sum(len(rater["tasks"]) for rater in rated.design["raters"])
    return {
        "tasks": asked,
        "answered": len(answers),
        "too_fast": len(answers) - len(slow),
        "of_raters_left_out": len(slow) - len(kept),
        "raters": len({answer.rater_id for answer in kept}),
        "ratings_compared": sum(answer.kind == "first" for answer in kept),
        "pictures_compared": len({answer.picture for answer in kept if answer.kind == "first"}),
    }


def _scores(rated: Rated, rates: Sequence[Answer]) -> tuple[Scores, list[str], int]:
    """The ratings as arrays, their raters, and how many sets there are, without sets and raters that gave nothing."""
    pictures = rated.key["pictures"]
    raters = sorted({answer.rater_id for answer in rates})
    _, sets = np.unique([pictures[answer.picture]["set"] for answer in rates], return_inverse=True)
    found = Scores(
        np.array([answer.scores for answer in rates]),
        sets,
        np.array([raters.index(answer.rater_id) for answer in rates]),
        np.array([rated.key["methods"].index(pictures[answer.picture]["method"]) for answer in rates]),
    )
    return found, raters, int(sets.max()) + 1


def compared(rated: Rated, rates: Sequence[Answer], leave_out: bool = True) -> dict[str, dict[str, Report]]:
    """Method → aspect → mean, the reference's mean, ratio with its interval, p, Holm's p, and without each rater."""
    protocol, key = rated.protocol, rated.key
    scores, raters, sets = _scores(rated, rates)
    found = ratios(scores, key["methods"], key["reference"], (sets, len(raters)), protocol.draws, _SEED)
    base = key["methods"].index(key["reference"])
    report: dict[str, dict[str, Report]] = {}
    for place, method in enumerate(key["methods"]):
        if place != base:
            cells: dict[str, Report] = {
                name: {
                    "mean": float(found.mean[place, n]),
                    "reference_mean": float(found.mean[base, n]),
                    "ratio": percentiles(found.ratio[place, n], found.drawn[:, place, n], protocol.confidence),
                    "p": p_value(found.drawn[:, place, n], 1.0),
                }
                for n, name in enumerate([*NAMES, "overall"])
            }
            for name, adjusted in holm({name: cells[name]["p"] for name in NAMES}).items():
                cells[name]["p_holm"] = adjusted
            report[method] = cells
    return _without_each(report, scores, raters, sets, key) if leave_out and len(raters) > 1 else report


def _without_each(
    report: dict[str, dict[str, Report]], scores: Scores, raters: list[str], sets: int, key: dict[str, Any]
) -> dict[str, dict[str, Report]]:
    """Adds to every cell its ratio without each rater."""
    for number, rater in enumerate(raters):
        left = ratios(scores.only(scores.rater != number), key["methods"], key["reference"], (sets, len(raters)), 1, 0)
        for method, cells in report.items():
            for n, cell in enumerate(cells.values()):
                cell.setdefault("without_rater", {})[rater] = float(left.ratio[key["methods"].index(method), n])
    return report


def agreement(rated: Rated, rates: Sequence[Answer]) -> dict[str, Any]:
    """Aspect → α and AC2 with intervals over pictures, and how the scores are spread."""
    raters = sorted({answer.rater_id for answer in rates})
    pictures = sorted({answer.picture for answer in rates})
    grid = np.full((len(NAMES), len(pictures), len(raters)), np.nan)
    for answer in rates:
        grid[:, pictures.index(answer.picture), raters.index(answer.rater_id)] = answer.scores
    rng = np.random.default_rng(_SEED)
    report: Report = {}
    for name, scores in zip(NAMES, grid, strict=True):
        counts = counts_of(scores)
        report[name] = intervals(counts, min(rated.protocol.draws, 1_000), rng, rated.protocol.confidence)
        report[name]["scores"] = counts.sum(0).astype(int).tolist()
    return report


def repeats(kept: Sequence[Answer]) -> dict[str, Any]:
    """Aspect → how often a rater's second rating of a picture equals the first, and how far they are apart."""
    first = {answer.task_id: answer for answer in kept if answer.kind == "first"}
    pairs = [(first[a.repeat_of], a) for a in kept if a.kind == "repeat" and a.repeat_of in first]
    apart = np.array([again.scores - before.scores for before, again in pairs]).reshape(-1, len(NAMES))
    report: dict[str, Any] = {}
    for name, column in zip(NAMES, apart.T, strict=True):
        both = column[np.isfinite(column)]
        report[name] = {
            "pairs": len(both),
            "equal": float((both == 0).mean()) if len(both) else float("nan"),
            "mean_apart": float(np.abs(both).mean()) if len(both) else float("nan"),
        }
    return report


def blinding(rated: Rated, asked: Sequence[Answer]) -> dict[str, Any]:
    """Method → answers, and the excess of right over wrong ones, with its interval crossed over pictures and raters.

    0: a guess, or as many right as wrong; 1: every picture was seen through; −1: taken for the other. "unsure" counts
    as neither. The reference is taken to be human, every other method AI.
    """
    report: dict[str, Any] = {}
    for method in rated.key["methods"]:
        truth = "human" if method == rated.key["reference"] else "ai"
        own = [answer for answer in asked if rated.key["pictures"][answer.picture]["method"] == method]
        right = np.array([0.0 if a.origin == "unsure" else 1.0 if a.origin == truth else -1.0 for a in own])
        told = {value: sum(answer.origin == value for answer in own) for value in ("ai", "human", "unsure")}
        report[method] = {"truth": truth, "answers": told, "excess": _crossed_mean(right, own, rated)}
    return report


def _crossed_mean(values: np.ndarray, own: Sequence[Answer], rated: Rated) -> dict[str, float] | None:
    if not own:
        return None
    rng = np.random.default_rng(_SEED)
    weight = np.ones((rated.protocol.draws, len(own)))
    for names in ([answer.picture for answer in own], [answer.rater_id for answer in own]):
        _, of = np.unique(names, return_inverse=True)
        weight *= draw_counts(int(of.max()) + 1, rated.protocol.draws, rng)[:, of]
    with np.errstate(invalid="ignore"):
        drawn = (weight @ values) / weight.sum(1)
    return percentiles(float(values.mean()), drawn, rated.protocol.confidence)
