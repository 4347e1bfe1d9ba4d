"""Repeated measurements of shops whose lift is known: how far off the estimators are, and how often intervals hold it.

Knows the simulation and the estimators; writes nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from lab.shop.events import Visits, table
from lab.shop.stores import Shop, counts, equal_arms
from lab.shop.viewers import Crowd, viewer_counts
from training.measurement.lift.counts import StoreCounts, item_variance
from training.measurement.lift.estimators import paper, pooled, primary
from training.measurement.lift.events import events_of
from training.measurement.lift.measuring import lift_of
from training.measurement.lift.metrics import counted, expected_exposure, metrics_of
from training.measurement.lift.plan import LEAST, Plan
from training.measurement.lift.viewers import viewer_lift

Found = dict[str, Any]
ESTIMATORS = ("primary", "pooled", "paper")
COVERAGE = (0.93, 0.97)
MOST_BIAS = 0.005  # half a percent point
CLICKS = (10, 20, 50, 200)  # expected clicks of an arm in a store


@dataclass(frozen=True)
class Scenario:
    """A kind of shop. A gated one decides whether the gate passes."""

    shop: Shop
    says: str
    gated: bool = False


A_A = Shop(lift_spread=0.0)
SCENARIOS = {
    "a_a": Scenario(A_A, "no lift in any store", gated=True),
    "a_a_uneven": Scenario(Shop(), "no lift in the typical store, ± 10 % in others", gated=True),
    "planted": Scenario(Shop(lift=0.13), "+13 % in the typical store, ± 10 % in others", gated=True),
    "few_items": Scenario(Shop(items=6.0), "6 items a store, 2 of them treated"),
    "few_clicks": Scenario(Shop(events=15.0), "15 clicks in the median store's control arm; most stores are dropped"),
    "thirty_stores": Scenario(Shop(stores=54), "about 30 stores compared"),
    "twelve_stores": Scenario(Shop(stores=22), "about 12 stores compared"),
    "larger_better": Scenario(Shop(lift=0.13, lift_by_size=0.1), "larger stores have larger lifts"),
    "by_rate": Scenario(Shop(treated_by_rate=1.0), "stores with high rates treat more of their items"),
}

CROWDS = {
    "viewers_a_a": (Crowd(), "no lift, 2,000 viewers in each arm", True),
    "viewers_planted": (Crowd(lift=0.13), "+13 %, 2,000 viewers in each arm", True),
    "few_viewers": (Crowd(viewers=800), "no lift, 400 viewers in each arm", False),
    "very_few_viewers": (Crowd(viewers=200), "no lift, 100 viewers in each arm", False),
    "heavy_viewers": (Crowd(looks_spread=1.6), "no lift, and a few viewers make most impressions", False),
}


def trial(scenario: Scenario, runs: int, seed: int = 0, draws: int = 1_000) -> Found:
    """Bias and coverage over so many shops, each drawn anew."""
    rng = np.random.default_rng(seed)
    reports, truths = [], []
    for number in tqdm(range(runs), desc=scenario.says[:30], leave=False):
        drawn, log_lift = counts(scenario.shop, rng)
        report = lift_of(drawn, LEAST["click_through"], draws=draws, seed=number)
        reports.append(report)
        kept = np.setdiff1d(np.arange(scenario.shop.stores), report["dropped_stores"])
        truths.append(np.expm1(log_lift[kept].mean()) if scenario.shop.lift_by_size else scenario.shop.lift)
    return {"says": scenario.says, "gated": scenario.gated, "runs": runs} | _summary(reports, np.array(truths))


def _summary(reports: list[Found], truth: np.ndarray) -> Found:
    found: Found = {"truth": float(truth.mean()), "stores": float(np.mean([of["stores"] for of in reports]))}
    for name in ESTIMATORS:
        value, low, high = (np.array([of[name][part] for of in reports]) for part in ("value", "low", "high"))
        found[name] = {
            "mean": float(value.mean()),
            "bias": float((value - truth).mean()),
            "bias_error": float((value - truth).std(ddof=1) / len(value) ** 0.5),
            "deviation": float(value.std(ddof=1)),
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
        }
    bounds = [(of["primary"]["student"]["low"], of["primary"]["student"]["high"]) for of in reports]
    low, high = np.array(bounds).T
    found["primary"]["coverage_student"] = float(((low <= truth) & (truth <= high)).mean())
    low, high = np.array([(of["pooled"]["fieller"]["low"], of["pooled"]["fieller"]["high"]) for of in reports]).T
    found["pooled"]["coverage_fieller"] = float(((low <= truth) & (truth <= high)).mean())
    return found


def viewer_trial(crowd: Crowd, says: str, gated: bool, runs: int, seed: int = 0) -> Found:
    """Bias and coverage over so many crowds, of the estimator by viewers and of one that forgets them."""
    rng = np.random.default_rng(seed)
    found = [viewer_lift(viewer_counts(crowd, rng), LEAST["click_through"])["lift"] for _ in range(runs)]
    value, low, high = (np.array([of[part] for of in found]) for part in ("value", "low", "high"))
    middle, effect = np.log1p(value), np.array([of["design_effect"] for of in found])
    short = (np.log1p(high) - middle) / effect**0.5
    return {
        "says": says, "gated": gated, "runs": runs, "truth": crowd.lift, "design_effect": float(effect.mean()),
        "primary": {
            "mean": float(value.mean()),
            "bias": float((value - crowd.lift).mean()),
            "bias_error": float(value.std(ddof=1) / runs**0.5),
            "coverage": float(((low <= crowd.lift) & (crowd.lift <= high)).mean()),
        },
        "every_event_by_itself": {"coverage": float((abs(middle - np.log1p(crowd.lift)) <= short).mean())},
    }  # fmt: skip


def passes(found: Found) -> bool:
    """Whether a gated scenario's primary estimator is as it must be."""
    primary_found = found["primary"]
    return bool(abs(primary_found["bias"]) <= MOST_BIAS and COVERAGE[0] <= primary_found["coverage"] <= COVERAGE[1])


def nothing_at_all(clicks: float, runs: int, stores: int = 200, seed: int = 0) -> Found:
    """The lift that each estimator finds on average in stores of two equal arms with so many expected clicks each."""
    rng = np.random.default_rng(seed)
    once = np.ones((1, stores))
    found = []
    for _ in range(runs):
        items = equal_arms(clicks, stores, rng)
        whole = StoreCounts.of(items)
        found.append([primary(whole, once, item_variance(items))[0], pooled(whole, once)[0], paper(whole, once)[0]])
    return {"clicks": clicks, "runs": runs} | dict(zip(ESTIMATORS, np.mean(found, 0).tolist(), strict=True))


def event_by_event(visits: Visits, runs: int, seed: int = 0) -> Found:
    """The same for a shop of single events, as counted and adjusted for position and age."""
    rng = np.random.default_rng(seed)
    metric, plan = metrics_of(())[0], Plan("2026-01-01T00:00:00+00:00")
    plain, adjusted = [], []
    for number in tqdm(range(runs), desc="event by event", leave=False):
        events = events_of(table(visits, rng), plan.window_s)
        items, least = counted(events, metric), plan.least[metric.family]
        plain.append(lift_of(items, least, draws=400, seed=number))
        expected = expected_exposure(events, metric)
        adjusted.append(lift_of(items, least, draws=400, seed=number, expected=expected))
    truth = np.full(runs, visits.lift)
    return {"runs": runs, "plain": _summary(plain, truth), "adjusted": _summary(adjusted, truth)}
