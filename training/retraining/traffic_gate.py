"""Whether a release on trial is promoted, by the mixed groups that merchants picked from.

Three outcomes: it is promoted if merchants pick its candidates beyond their share, and rolled back if they pick them
below it, each with a chance of error of at most 1/threshold however often the gate looks (training.retraining.betting);
until then it is undecided, and one that stays so for too long is rolled back. The decision is the first threshold that
is reached in the order of arrival, so it is the same whether the gate looks after every group or once. A promotion
counts only from `least_merchants` on, which leaves its chance of error as it is: that the e-value reaches the threshold
at such a moment is no more likely than that it ever does. And it counts only while few groups are broken, by all that
came until the gate looks; until then the bets go on, so that a trial may still be rolled back, or promoted later.
Knows mixed groups; nothing about how candidates were made, and no truth beyond picks.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from training.common.errors import ModelError
from training.retraining.betting import Bets
from training.retraining.limits import limit
from training.retraining.mixed_groups import LATEST, MixedGroup, MixedGroups
from training.retraining.verdicts import Decision


@dataclass(frozen=True)
class TrafficLimits:
    """When the traffic gate decides; each is an option of the command."""

    promote_at: float = limit(20.0, "e-value that promotes; an equal release reaches 20 with a chance of 1/20")
    roll_back_at: float = limit(20.0, "e-value of the mirrored test that rolls back")
    most_groups: int = limit(5_000, "mixed groups after which an undecided trial is rolled back")
    most_hours: float = limit(168.0, "hours from --since after which an undecided trial is rolled back")
    least_merchants: int = limit(8, "merchants in mixed groups; with fewer nothing is promoted")
    most_broken: float = limit(0.1, "share of mixed groups, all or the latest 100, that lack one side; above it "
                              "nothing is promoted")  # fmt: skip
    flood: float = limit(0.3, "share of the mixed groups above which a merchant is named as flooding")

    def __post_init__(self) -> None:
        for name, least in (("promote_at", 1), ("roll_back_at", 1), ("most_groups", 1), ("least_merchants", 2)):
            if not getattr(self, name) >= least:
                raise ModelError(f"{name} is {getattr(self, name)}, at least {least} is needed")
        for name in ("most_broken", "flood"):
            if not 0 <= getattr(self, name) <= 1:
                raise ModelError(f"{name} is {getattr(self, name)}, not a share from 0 to 1")
        if not self.most_hours > 0:
            raise ModelError(f"most_hours is {self.most_hours}, a positive number is needed")


@dataclass(frozen=True)
class Outcome:
    """What the mixed groups say."""

    verdict: Decision
    reasons: tuple[str, ...]
    figures: dict[str, Any]
    e_value: float
    groups: int
    merchants: int


def judge(found: MixedGroups, limits: TrafficLimits, since: datetime, now: datetime | None = None) -> Outcome:
    """Plays the bets in the order of arrival up to the first threshold, and says what follows."""
    bets, reached, is_broken = Bets(), "undecided", found.broken_share > limits.most_broken
    played = list[MixedGroup]()
    for group in found.groups:
        bets.add(group.merchant, group.beyond)
        played.append(group)
        if bets.worse >= limits.roll_back_at:
            reached = "roll back"
        elif bets.better >= limits.promote_at and bets.merchants >= limits.least_merchants and not is_broken:
            reached = "promote"
        if reached != "undecided":
            break
    figures = _figures(found, played, bets)
    said = f"e-value {bets.better:.3g} after {len(played)} groups of {bets.merchants} merchants"
    if reached == "roll back":
        reasons = [f"merchants pick the trial's candidates below their share: mirrored e-value {bets.worse:.3g}, "
                   f"{limits.roll_back_at:g} rolls back; {said}"]  # fmt: skip
    elif reached == "promote":
        reasons = [f"merchants pick the trial's candidates beyond their share: {said}, {limits.promote_at:g} promotes"]
    else:
        reasons = _why_undecided(found, bets, said, limits)
    if reached == "undecided" and (late := out_of_time(limits, since, now, found.shown)):
        reached, reasons = "roll back", [late, *reasons]
    reasons += _floods(played, limits)
    return Outcome(reached, tuple(reasons), figures, bets.better, len(played), bets.merchants)  # type: ignore[arg-type]


def out_of_time(limits: TrafficLimits, since: datetime, now: datetime | None = None, shown: int = 0) -> str | None:
    """Why a trial that is undecided ends; None: it goes on."""
    if shown >= limits.most_groups:
        return f"undecided after {shown} mixed groups, {limits.most_groups} are the most: the trial ends"
    if (now or datetime.now(UTC)) - since >= timedelta(hours=limits.most_hours):
        return f"undecided after {limits.most_hours:g} hours, which are the most: the trial ends"
    return None


def _why_undecided(found: MixedGroups, bets: Bets, said: str, limits: TrafficLimits) -> list[str]:
    if not found.shown:
        return ["no mixed group of this trial has come back from a merchant: nothing can be said"]
    if not found.groups:
        return [f"none of {found.shown} mixed groups can be compared: {_listed(found.unusable)}"]
    reasons = []
    if found.broken_share > limits.most_broken:
        reasons.append(f"{found.broken_share:.0%} of the mixed groups, all or the latest {LATEST}, are not mixed, "
                       f"{limits.most_broken:.0%} are allowed: {_listed(found.unusable)}")  # fmt: skip
    if bets.better < limits.promote_at:
        return [*reasons, f"the picks do not tell the releases apart yet: {said}, {limits.promote_at:g} promotes"]
    if bets.merchants < limits.least_merchants:
        reasons.append(f"only {bets.merchants} merchants are in it, {limits.least_merchants} are needed")
    return [*reasons, f"the picks alone would promote: {said}"]


def _floods(played: list[MixedGroup], limits: TrafficLimits) -> list[str]:
    """Names the merchant with most groups, by a hash, so that the file stays when a merchant is erased."""
    if not played:
        return []
    merchant, count = Counter(group.merchant for group in played).most_common(1)[0]
    if count <= limits.flood * len(played) or count < 2:
        return []
    return [
        f"one merchant ({hashed(merchant)}) has {count} of {len(played)} groups; "
        "all of a merchant's groups together are one bet"
    ]


def hashed(merchant: str) -> str:
    """A merchant's name in a verdict: the beginning of the user_id's SHA-256."""
    return f"SHA-256 of user_id {hashlib.sha256(merchant.encode()).hexdigest()[:16]}…"


def _figures(found: MixedGroups, played: list[MixedGroup], bets: Bets) -> dict[str, Any]:
    most = max(Counter(group.merchant for group in played).values(), default=0)
    return {
        "beyond_share": sum(group.beyond for group in played) / len(played) if played else None,
        "e_value_of_worse": bets.worse,
        "largest_share_of_a_merchant": most / len(played) if played else None,
        "first_place_picked": sum(group.by_place[0] for group in played) / len(played) if played else None,
        "mixed_groups": found.shown,
        "not_comparable": dict(found.unusable),
    }


def _listed(unusable: Counter[str]) -> str:
    return "; ".join(f"{count} with {reason}" for reason, count in unusable.most_common())
