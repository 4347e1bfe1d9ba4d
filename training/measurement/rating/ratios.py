"""Ratios of a method's mean scores to the reference's, by a bootstrap crossed over sets of pictures and raters.

Each draw takes sets with replacement and, independently, raters with replacement; a score counts as often as its set is
drawn times as often as its rater is. The draws are the same for every aspect and method. A set is resampled whole, as
its pictures are matched. Knows numbers; neither pictures nor raters by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.measurement.resampling import draw_counts


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one comparison, a row a rating.

    score   float (N, A), NaN where not judged
    set, rater, method   int (N,)
    """

    score: np.ndarray
    set: np.ndarray
    rater: np.ndarray
    method: np.ndarray

    def only(self, where: np.ndarray) -> "Scores":
        """The rows `where`, bool (N,)."""
        return Scores(self.score[where], self.set[where], self.rater[where], self.method[where])


def means(scores: Scores, methods: int, set_counts: np.ndarray, rater_counts: np.ndarray) -> np.ndarray:
    """Mean scores of each draw, and last their overall mean, float (D, methods, A + 1); NaN where a draw has no score.

    Args:
        set_counts: how often each set is in a draw, (D, S).
        rater_counts: how often each rater is, (D, R).
    """
    aspects = scores.score.shape[1]
    found = np.full((len(set_counts), methods, aspects + 1), np.nan)
    shape = (set_counts.shape[1], rater_counts.shape[1])
    for method in range(methods):
        for aspect in range(aspects):
            there = (scores.method == method) & np.isfinite(scores.score[:, aspect])
            place = np.ravel_multi_index((scores.set[there], scores.rater[there]), shape)
            n, total = (
                np.bincount(place, weight, shape[0] * shape[1]).reshape(shape)
                for weight in (None, scores.score[there, aspect])
            )
            weight, summed = (((set_counts @ part) * rater_counts).sum(1) for part in (n, total))
            np.divide(summed, weight, out=found[:, method, aspect], where=weight > 0)
    found[..., aspects] = found[..., :aspects].mean(-1)
    return found


def ratios(
    scores: Scores, methods: Sequence[str], reference: str, sizes: tuple[int, int], draws: int, seed: int
) -> "Ratios":
    """Means and ratios, of the scores themselves and of each draw.

    Args:
        sizes: how many sets and how many raters there are.
    """
    rng = np.random.default_rng(seed)
    once = tuple(np.ones((1, n)) for n in sizes)
    counts = tuple(draw_counts(n, draws, rng) for n in sizes)
    plain, drawn = (means(scores, len(methods), *of) for of in (once, counts))
    base = methods.index(reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Ratios(plain[0], plain[0] / plain[0, base], drawn / drawn[:, base : base + 1])


@dataclass(frozen=True, eq=False)
class Ratios:
    """The last aspect is the overall.

    mean    float (methods, A + 1)
    ratio   float (methods, A + 1), to the reference
    drawn   float (D, methods, A + 1), the ratio in each draw
    """

    mean: np.ndarray
    ratio: np.ndarray
    drawn: np.ndarray
