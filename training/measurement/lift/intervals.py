"""Intervals of lifts: store bootstraps, and two that need no draws to check them by. Knows numbers only."""

import numpy as np

from training.measurement.lift.counts import CONTROL, TREATMENT, StoreCounts
from training.measurement.lift.estimators import LogRatios

Bounds = tuple[float, float]


def studentised(ratios: LogRatios, drawn: np.ndarray, confidence: float) -> Bounds:
    """Of the primary lift: the bootstrap of (mean − truth) / standard error over stores (Efron and Tibshirani 1993,
    12.5).

    With few stores a percentile interval is too short; this one is not, down to about thirty (docs/measuring.md).
    """
    mean, error = (of[0] for of in ratios.mean(np.ones((1, len(ratios.y)))))
    means, errors = ratios.mean(drawn)
    there = errors > 1e-12  # a draw of one store alone has no spread
    if error <= 0 or there.sum() < 0.9 * len(drawn):
        return float("nan"), float("nan")
    tail = 50 * (1 - confidence)
    low, high = np.percentile((means[there] - mean) / errors[there], [tail, 100 - tail])
    return float(np.expm1(mean - high * error)), float(np.expm1(mean - low * error))


def student(ratios: LogRatios, confidence: float) -> Bounds:
    """Of the primary lift, by Student's t with the standard error from the spread of the stores."""
    mean, error = (of[0] for of in ratios.mean(np.ones((1, len(ratios.y)))))
    if len(ratios.y) < 2:
        return float("nan"), float("nan")
    t = _t((1 + confidence) / 2, len(ratios.y) - 1)
    return float(np.expm1(mean - t * error)), float(np.expm1(mean + t * error))


def fieller(stores: StoreCounts, confidence: float) -> Bounds:
    """Of the pooled lift: Fieller's (1954) bounds of a ratio of two rates, whose covariance is that among stores.

    NaN where the control's rate cannot be told from 0, which leaves the ratio without bounds.
    """
    n = len(stores.store)
    rate = stores.events.sum(0) / stores.exposure.sum(0)
    if n < 2 or rate[CONTROL] == 0:
        return float("nan"), float("nan")
    apart = (stores.events - rate * stores.exposure) / stores.exposure.sum(0)  # (S, 2), each store's share of the error
    covariance = n / (n - 1) * apart.T @ apart
    t2 = _t((1 + confidence) / 2, n - 1) ** 2
    a = rate[CONTROL] ** 2 - t2 * covariance[CONTROL, CONTROL]
    b = rate[TREATMENT] * rate[CONTROL] - t2 * covariance[TREATMENT, CONTROL]
    c = rate[TREATMENT] ** 2 - t2 * covariance[TREATMENT, TREATMENT]
    if a <= 0 or b * b < a * c:
        return float("nan"), float("nan")
    root = np.sqrt(b * b - a * c)
    return float((b - root) / a - 1), float((b + root) / a - 1)


def _t(share: float, freedom: int) -> float:
    """The quantile of Student's t."""
    from scipy import stats  # a second to load

    return float(stats.t.ppf(share, freedom))
