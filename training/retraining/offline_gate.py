"""Whether a candidate family is fit for a trial: compared with the live one on picks that its training has not seen.

Every figure is a difference, candidate − live, paired group by group, with a 95 % interval by a bootstrap over
merchants. Overall the burden of proof is the candidate's: the interval may not reach below −margin. A segment (a
category, the new merchants) is smaller, so there the fall must be shown: the mean is beyond the segment's margin, and
an interval that allows for the number of segments lies below zero. Every refusal is a sentence with its figure,
interval and margin. Knows numbers, merchants and segments; neither families nor pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.common.errors import ModelError
from training.common.resampling import Resampler, interval
from training.retraining.limits import limit
from training.retraining.verdicts import Decision, interval_text

DRAWS = 4_000  # of merchants, for every interval


@dataclass(frozen=True)
class GateMargins:
    """How much worse a candidate may be, in each figure's unit; each is an option of the command."""

    reward_gauc: float = limit(0.04, "margin of the GAUC of its reward model on held-out picks")
    reward_map: float = limit(0.05, "margin of the MAP of its reward model on held-out picks")
    favours: float = limit(0.05, "margin of the cross-entropy of held-out picks by favours, nats a group")
    prompt_accuracy: float = limit(0.03, "margin of the share of asked-for phrases that drawn pictures show")
    diversity: float = limit(0.5, "margin of diversity, as a share of the live family's; taste costs some")
    diversity_floor: float = limit(0.12, "the least diversity, whatever the live family's is")
    judge_score: float = limit(0.25, "margin of the judge's score, in standard deviations of the live family's")
    latency: float = limit(0.2, "margin of the time to draw, as a share of the live family's")
    segment: float = limit(1.5, "a segment's margins are so many times as wide")
    least_merchants: int = limit(
        10, "merchants of a figure, with fewer nothing passes; and of a segment that is looked at"
    )
    least_groups: int = limit(20, "held-out groups; with fewer nothing passes")
    least_judge_gauc: float = limit(0.55, "GAUC of the judge on held-out picks, below which it is no judge")
    most_merchant_share: float = limit(0.25, "share that one merchant may have of the new groups trained on")
    agreement: float = limit(
        0.1, "how much less, in GAUC, new picks may follow the live reward model than held-out ones"
    )
    most_place_gauc: float = limit(0.95, "GAUC of the places for new picks, above which merchants pick by place")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ModelError(f"{name} is {value}, a number from 0 on is needed")


@dataclass(frozen=True)
class Figure:
    """What is compared, and how its margin is meant."""

    title: str
    lower_is_better: bool = False
    relative: bool = False  # the margin is a share of the live family's mean


FIGURES: Mapping[str, Figure] = {
    "reward_gauc": Figure("GAUC of its reward model on held-out picks"),
    "reward_map": Figure("MAP of its reward model on held-out picks"),
    "favours": Figure("cross-entropy of held-out picks by its favours", lower_is_better=True),
    "prompt_accuracy": Figure("prompt accuracy"),
    "diversity": Figure("diversity", relative=True),
    "judge_score": Figure("score by the judge"),
    "latency": Figure("time to draw", lower_is_better=True, relative=True),
}
SAME_MARGIN = {"reward": "judge_score"}  # reported beside it, and decides nothing: a training may exploit it


@dataclass(frozen=True)
class HeldOut:
    """Whose the held-out groups are: merchants int (N,), and segments by name, bool (N,)."""

    merchants: np.ndarray
    segments: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A figure of both families, a value for each of these rows of the held-out groups; all (G,)."""

    rows: np.ndarray
    live: np.ndarray
    candidate: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What the offline gate says."""

    verdict: Decision
    reasons: tuple[str, ...]
    figures: dict[str, Any]
    groups: int
    merchants: int


def decide(
    held_out: HeldOut,
    compared: Mapping[str, Compared],
    margins: GateMargins,
    problems: Sequence[str] = (),
    judge_gauc: float | None = None,
) -> Outcome:
    """The verdict on figures by name, of FIGURES and `reward`.

    Args:
        problems: what already speaks against the candidate, as sentences.
        judge_gauc: of the judge on held-out picks.
    """
    often = Resampler(held_out.merchants, DRAWS).weights  # (D, merchants)
    figures = {name: _with_segments(held_out, values, name, margins, often) for name, values in compared.items()}
    reasons = [*problems]
    if len(held_out.merchants) < margins.least_groups:
        reasons.append(f"only {len(held_out.merchants)} groups are held out, {margins.least_groups} are needed")
    if judge_gauc is not None and not judge_gauc >= margins.least_judge_gauc:
        least = margins.least_judge_gauc
        reasons.append(
            f"the judge ranks held-out picks with a GAUC of {judge_gauc:.3f}; below {least:g} it is no judge: hold out "
            "more groups, or give a reward model of other merchants' picks by --judge"
        )
    for name in FIGURES:
        if name in figures:
            reasons += _too_few(name, held_out.merchants[compared[name].rows], margins)
            reasons += _against(name, figures, margins)
    reasons += _below_floor(figures, margins)
    n_merchants = len(np.unique(held_out.merchants))
    passed = f"no figure falls beyond its margin on {len(held_out.merchants)} groups of {n_merchants} merchants"
    verdict: Decision = "refuse" if reasons else "pass"
    return Outcome(verdict, tuple(reasons) or (passed,), figures, len(held_out.merchants), n_merchants)


def look_random(
    new: Mapping[str, float], held_out: Mapping[str, float], difference: Mapping[str, float], margin: float
) -> bool:
    """Whether new picks look as if they were made at random, by intervals of GAUC under the live reward model.

    They do if they follow it less than held-out ones by more than the margin. A reward model that knows little leaves
    no room for a margin: there they do if they are below the held-out ones, and say nothing where those say something.
    """
    says_nothing = new["low"] <= 0.5 < held_out["low"] and difference["high"] < 0
    return says_nothing or difference["high"] < -margin


def _with_segments(
    held_out: HeldOut, values: Compared, name: str, margins: GateMargins, often: np.ndarray
) -> dict[str, Any]:
    """A figure's means, its difference with interval, and the same for every segment that is large enough."""
    merchants = held_out.merchants[values.rows]
    margin = _margin(name, values, margins)
    parts = {segment: inside[values.rows] for segment, inside in held_out.segments.items()}
    large = {
        segment: inside
        for segment, inside in parts.items()
        if len(np.unique(merchants[inside])) >= margins.least_merchants
    }
    return {
        "live": _mean(values.live),
        "candidate": _mean(values.candidate),
        "difference": _difference(values, merchants, np.ones(len(merchants), bool), often, 5.0),
        "margin": margin,
        "segments": {
            segment: _difference(values, merchants, inside, often, 5 / len(large))
            | {"margin": margin * margins.segment}
            for segment, inside in large.items()
        },
        "segments_too_small": sorted(set(parts) - set(large)),
    }


def _margin(name: str, values: Compared, margins: GateMargins) -> float:
    margin: float = getattr(margins, SAME_MARGIN.get(name, name))
    relative = name in FIGURES and FIGURES[name].relative
    return margin * abs(_mean(values.live)) if relative else margin


def _difference(
    values: Compared, merchants: np.ndarray, inside: np.ndarray, often: np.ndarray, percent: float
) -> dict[str, Any]:
    """candidate − live of these groups, with the interval that leaves out `percent` of a bootstrap over merchants.

    Args:
        often: how often each merchant is in each draw, (D, merchants).
    """
    differences, whose = (values.candidate - values.live)[inside], merchants[inside]
    if not len(differences) or not np.isfinite(differences).all():
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "groups": len(differences)}
    n = often.shape[1]
    sums = often @ np.stack([np.bincount(whose, differences, n), np.bincount(whose, minlength=n)], axis=1)  # (D, 2)
    drawn = sums[sums[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [percent / 2, 100 - percent / 2])
    return {"mean": float(differences.mean()), "low": float(low), "high": float(high), "groups": len(differences)}


def _too_few(name: str, merchants: np.ndarray, margins: GateMargins) -> list[str]:
    """That a figure rests on too few merchants: the interval of one is a point, and proves nothing."""
    if (count := len(np.unique(merchants))) >= margins.least_merchants:
        return []
    return [f"{FIGURES[name].title} rests on {count} merchants, {margins.least_merchants} are needed"]


def _against(name: str, figures: Mapping[str, Any], margins: GateMargins) -> list[str]:
    """Why this figure speaks against the candidate, as sentences."""
    figure, found = FIGURES[name], figures[name]
    overall, reasons = _worse(found["difference"], figure), list[str]()
    if not overall["low"] >= -found["margin"]:  # NaN is no proof
        reasons.append(f"{figure.title} {_moves(found['difference'], found['margin'])}{_while(name, figures)}")
    for segment, difference in found["segments"].items():
        worse = _worse(difference, figure)
        if worse["mean"] < -difference["margin"] and worse["high"] < 0:
            reasons.append(f"{segment}: {figure.title} {_moves(difference, difference['margin'])}")
    return reasons


def _while(name: str, figures: Mapping[str, Any]) -> str:
    """That the reward rises while the judge falls, which is what exploiting a reward looks like."""
    reward = figures.get("reward", {}).get("difference")
    if name != "judge_score" or reward is None or not reward["mean"] > 0:
        return ""
    return f", while its own reward model's score changes by {interval_text(reward)}"


def _moves(difference: Mapping[str, float], margin: float) -> str:
    return f"changes by {interval_text(difference)}, margin {margin:.3f}"


def _worse(difference: Mapping[str, float], figure: Figure) -> dict[str, float]:
    """The difference so that a fall is negative."""
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    return {"mean": -mean, "low": -high, "high": -low} if figure.lower_is_better else dict(difference)


def _below_floor(figures: Mapping[str, Any], margins: GateMargins) -> list[str]:
    if "diversity" not in figures or figures["diversity"]["candidate"] >= margins.diversity_floor:
        return []
    return [f"diversity is {figures['diversity']['candidate']:.3f}, below the floor of {margins.diversity_floor:g}"]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def rated(values: np.ndarray, merchants: np.ndarray) -> dict[str, float]:
    """The mean of values (G,) with its interval over merchants."""
    return interval(*Resampler(np.unique(merchants, return_inverse=True)[1]).mean(values[None]))


def compared_samples(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """The difference of two means, of values with their merchants, with its interval over merchants."""
    values, merchants = (np.concatenate(parts) for parts in zip(one, other, strict=True))
    whose = np.unique(merchants, return_inverse=True)[1]
    often = Resampler(whose, DRAWS).weights  # (D, merchants)
    means, cut = list[np.ndarray](), len(one[0])
    for part in (slice(cut), slice(cut, None)):
        sums, counts = (often @ np.bincount(whose[part], w, often.shape[1]) for w in (values[part], None))
        means.append(sums / np.where(counts > 0, counts, np.nan))  # (D,)
    drawn = means[0] - means[1]
    return interval(float(one[0].mean() - other[0].mean()), drawn[~np.isnan(drawn)])
