"""Draws of a bootstrap, intervals and p-values from them, and Holm's correction. Knows only numbers."""

from collections.abc import Mapping

import numpy as np


def draw_counts(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n units is in each draw of n with replacement, float (D, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), draws).astype(float)


def percentiles(value: float, drawn: np.ndarray, confidence: float) -> dict[str, float]:
    """A value with the middle of its draws; draws that are not finite are left out, and counted where there are any."""
    finite = drawn[np.isfinite(drawn)]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(finite, [tail, 100 - tail]) if len(finite) else (np.nan, np.nan)
    found = {"value": float(value), "low": float(low), "high": float(high)}
    return found if len(finite) == len(drawn) else found | {"undefined_draws": int(len(drawn) - len(finite))}


def p_value(drawn: np.ndarray, null: float) -> float:
    """Two-sided: the smallest 1 − confidence whose percentile interval leaves the null out; never 0."""
    finite = drawn[np.isfinite(drawn)]
    below, above = ((finite <= null).sum() + 1, (finite >= null).sum() + 1)
    return float(min(1.0, 2 * min(below, above) / (len(finite) + 1)))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: below .05, and the hypothesis falls with a familywise error of 5 % at most."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}
