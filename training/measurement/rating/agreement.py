"""How far raters agree: Krippendorff's α for ordinal scores, and Gwet's AC2.

α (Krippendorff, Content Analysis, 2004, ch. 11) is 1 − D_o / D_e: the disagreement within units over that between all
scores that could be paired. Where nearly all scores are alike, D_e is small and α is low though raters agree; AC2
(Gwet, Handbook of Inter-Rater Reliability, 2014, ch. 4) takes its chance agreement from how seldom scores are used, and
does not fall. Both accept gaps. Knows numbers only.
"""

import numpy as np

from training.measurement.rating.protocol import SCALE


def counts_of(scores: np.ndarray, scale: tuple[int, ...] = SCALE) -> np.ndarray:
    """How many raters gave each unit each score, float (U, V).

    Args:
        scores: float (U, R), NaN for a gap.
    """
    return np.stack([(scores == value).sum(1) for value in scale], 1).astype(float)


def alpha(counts: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Krippendorff's α with the ordinal metric; NaN where it is not defined: no pairs, or all scores equal.

    Args:
        counts: float (U, V), how many raters gave each unit each score; V scores in ascending order.
        weight: how often each unit counts, (U,); once where not given.
    """
    raters = counts.sum(1)  # (U,)
    paired = counts * (raters >= 2)[:, None]  # a unit with one score has nothing to agree with
    weight = np.ones(len(counts)) if weight is None else weight
    share = weight * (raters >= 2) / np.maximum(raters - 1, 1)
    coincidences = (paired * share[:, None]).T @ paired - np.diag(share @ paired)  # (V, V)
    totals = coincidences.sum(1)  # n_c
    metric = _ordinal_metric(totals)
    n = totals.sum()
    expected = (np.outer(totals, totals) * metric).sum() / (n - 1) if n > 1 else 0.0
    return float(1 - (coincidences * metric).sum() / expected) if expected > 0 else float("nan")


def ac2(counts: np.ndarray, weight: np.ndarray | None = None, agreement: np.ndarray | None = None) -> float:
    """Gwet's AC2; NaN where no unit has two scores.

    Args:
        counts: float (U, V), as of `alpha`.
        weight: how often each unit counts, (U,).
        agreement: how much two scores agree, (V, V) with ones on the diagonal; Gwet's ordinal weights where not given.
    """
    weight = np.ones(len(counts)) if weight is None else weight
    w = ordinal_weights(counts.shape[1]) if agreement is None else agreement
    raters = counts.sum(1)
    many, some = weight * (raters >= 2), weight * (raters >= 1)
    if not many.sum():
        return float("nan")
    pairs = np.maximum(raters * (raters - 1), 1)
    observed = (many * (counts * (counts @ w.T - 1)).sum(1) / pairs).sum() / many.sum()
    used = (some[:, None] * counts / np.maximum(raters, 1)[:, None]).sum(0) / some.sum()  # π
    values = len(used)
    chance = w.sum() / (values * (values - 1)) * (used * (1 - used)).sum()
    return float((observed - chance) / (1 - chance))


def ordinal_weights(values: int) -> np.ndarray:
    """Gwet's: 1 − C(|k − l| + 1, 2) / C(V, 2)  # (V, V)"""
    apart = np.abs(np.subtract.outer(np.arange(values), np.arange(values)))
    return np.asarray(1 - apart * (apart + 1) / (values * (values - 1)))


def _ordinal_metric(totals: np.ndarray) -> np.ndarray:
    """δ²: the squared number of scores from the middle of one value to the middle of the other  # (V, V)"""
    middle = totals.cumsum() - totals / 2
    return np.subtract.outer(middle, middle) ** 2


def intervals(
    counts: np.ndarray, draws: int, rng: np.random.Generator, confidence: float
) -> dict[str, dict[str, float]]:
    """α and AC2 with percentile intervals over units, not raters: one drawn twice would agree with himself."""
    units = len(counts)
    weights = rng.multinomial(units, np.full(units, 1 / units), draws) if units else np.zeros((0, 0))
    found = {}
    for name, measure in (("alpha", alpha), ("ac2", ac2)):
        drawn = np.array([measure(counts, weight) for weight in weights])
        drawn = drawn[np.isfinite(drawn)]
        tail = 50 * (1 - confidence)
        low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (np.nan, np.nan)
        found[name] = {"value": measure(counts), "low": float(low), "high": float(high)}
    return found
