"""The lift where chance assigned viewers: one ratio of sums, whose variance is that among viewers.

With x events at n exposures of a viewer, an arm's rate is R = Σx / Σn, and the lift is R_t / R_c − 1. A viewer looks
many times, clicks more or less than others, and is in one arm with all of it: impressions are no independent draws, and
an interval that takes them so is too short. So the unit is the viewer, by the delta method
(Deng, Knoblich and Lu 2018, "Applying the Delta Method in Metric Analytics"):

    var(log R) = V / (V − 1) · Σ (x − R n)² / (Σx)²           over the V viewers of an arm

    low, high = exp(log(R_t / R_c) ∓ z · √(var_t + var_c)) − 1

Fieller's bounds stand beside it, and `design_effect`: by how much the variance is larger than if every event were
somebody else's. Stores have no part in it: a viewer who visits two of them is one viewer. Knows counts; no events.
"""

from typing import Any

import numpy as np

from training.measurement.lift.randomisation import ALARM
from training.measurement.lift.viewer_events import ViewerCounts

Report = dict[str, Any]
FEW = 400  # viewers of an arm with exposure, below which lifts were found a percent point too high (docs/measuring.md)
_ARMS = (False, True)  # control, treatment


def viewer_lift(counts: ViewerCounts, least: float, *, confidence: float = 0.95) -> Report:
    """The lift as JSON values; its `lift` is None where an arm has less exposure than `least`, or no event."""
    arms = [counts.treated == arm for arm in _ARMS]
    events, exposure = ([float(of[arm].sum()) for arm in arms] for of in (counts.events, counts.exposure))
    viewers = [int((counts.exposure[arm] > 0).sum()) for arm in arms]
    report: Report = {
        "viewers": viewers, "events": events, "exposure": exposure, "least_exposure": least,
        "few_viewers": min(viewers) < FEW, "lift": None,
    }  # fmt: skip
    if min(exposure) < least or min(events) == 0 or min(viewers) < 2:
        return report
    variances = [_variance(counts.events[arm], counts.exposure[arm]) for arm in arms]
    z = _normal((1 + confidence) / 2)
    rate = [x / n for x, n in zip(events, exposure, strict=True)]
    middle, half = np.log(rate[1] / rate[0]), z * np.sqrt(sum(variances))
    low, high = fieller(rate, variances, z)
    alone = sum(1 / x for x in events)  # Poisson's variance of a log, every event by itself
    report["lift"] = {
        "value": float(np.expm1(middle)), "low": float(np.expm1(middle - half)), "high": float(np.expm1(middle + half)),
        "fieller": {"low": low, "high": high}, "design_effect": float(sum(variances) / alone),
    }  # fmt: skip
    return report


def fieller(rate: list[float], variances: list[float], z: float) -> tuple[float, float]:
    """Fieller's (1954) bounds of the ratio of two independent rates, treatment by control, minus 1.

    NaN where the control's rate cannot be told from 0.

    Args:
        rate: of control and treatment.
        variances: of their logs.
    """
    control, treatment = (r * r * (1 - z * z * v) for r, v in zip(rate, variances, strict=True))
    product = rate[0] * rate[1]
    if control <= 0 or product * product < control * treatment:
        return float("nan"), float("nan")
    root = np.sqrt(product * product - control * treatment)
    return float((product - root) / control - 1), float((product + root) / control - 1)


def viewer_ratio(treated: np.ndarray, share: float) -> dict[str, Any]:
    """Whether as many viewers are treated as planned, by an exact binomial test of those who are compared.

    Args:
        treated: bool (V,)
        share: of treated viewers, as planned.
    """
    from scipy import stats  # a second to load

    n, k = len(treated), int(treated.sum())
    p = float(stats.binomtest(k, n, share).pvalue)
    return {"planned": share, "viewers": n, "treated": k, "found": k / n, "p": p, "wrong": p < ALARM}


def viewer_placebo(counts: ViewerCounts, least: float, splits: int, share: float, seed: int = 0) -> dict[str, Any]:
    """An A/A test on a team's own shop: how often a split of the control viewers by chance finds a lift.

    Args:
        share: of the control viewers, which a split calls treated.
    """
    rng = np.random.default_rng(seed)
    control = ~counts.treated
    events, exposure = counts.events[control], counts.exposure[control]
    found = []
    for _ in range(splits):
        split = viewer_lift(ViewerCounts(rng.random(len(events)) < share, events, exposure), least)["lift"]
        if split is not None:
            found.append(split)
    return {
        "splits": len(found),
        "share": share,
        "found_a_lift": float(np.mean([not of["low"] <= 0 <= of["high"] for of in found])) if found else None,
        "mean_lift": float(np.mean([of["value"] for of in found])) if found else None,
    }


def _variance(events: np.ndarray, exposure: np.ndarray) -> float:
    """Of the log of Σ events / Σ exposure, over viewers."""
    total = events.sum()
    apart = events - total / exposure.sum() * exposure
    return float(len(events) / (len(events) - 1) * (apart**2).sum() / total**2)


def _normal(share: float) -> float:
    from scipy import stats  # a second to load

    return float(stats.norm.ppf(share))
