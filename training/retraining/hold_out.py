"""The groups that a candidate is judged on: newer than everything that it and the live family were trained on.

Groups with a group_id or a time that a training used (training.retraining.trained_on) are never held out. Knows groups;
no pictures and no models.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from training.common.errors import ModelError
from training.data.table import Group
from training.retraining.limits import limit
from training.retraining.mixture import informative
from training.retraining.offline_gate import GateMargins
from training.retraining.traffic_gate import hashed
from training.retraining.trained_on import TrainedOn


@dataclass(frozen=True)
class Size:
    """How much the offline gate measures; each is an option of the command."""

    held_out: int = limit(400, "newest groups with a pick to compare on")
    of_merchant: int = limit(20, "most of them of one merchant")
    drawn: int = limit(120, "of them, whose prompts both families draw")
    candidates: int = limit(4, "pictures of each")
    checked: int = limit(300, "newest groups trained on whose picks are checked; 0: none")
    seed: int = limit(0, "of the noise")

    def __post_init__(self) -> None:
        for name, least in (
            ("held_out", 2),
            ("of_merchant", 1),
            ("drawn", 2),
            ("candidates", 2),
            ("checked", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise ModelError(f"{name} is {getattr(self, name)}, at least {least} is needed")


class HoldOutError(ModelError):
    """No groups are left to judge a candidate on; says what the training used."""


@dataclass(frozen=True)
class Split:
    """The groups of a table by what a candidate's training did with them."""

    held_out: tuple[Group, ...]  # the newest, which neither family was trained on
    new: tuple[Group, ...]  # what the candidate was trained on, and the live family was not
    known: frozenset[str] = field(default_factory=frozenset)  # merchants of `held_out` whom a training has seen


def split(
    table: Sequence[Group], candidate: TrainedOn | None, live: TrainedOn | None, size: Size,
    until: datetime | None = None,
) -> Split:  # fmt: skip
    """The newest groups with a pick that both families have not seen, and what of the table trained the candidate.

    Args:
        table: in the order of time.
        until: a time up to which the candidate's training used groups, for a family without a record.

    Raises:
        HoldOutError: there are none.
    """
    used = [family for family in (candidate, live) if family is not None]
    seen = frozenset[str]().union(*(family.group_ids for family in used))
    times = [time for time in (until, *(family.until for family in used)) if time is not None]
    if not times:
        raise HoldOutError("no time is known up to which the candidate was trained: give --trained-until")
    last = max(times)
    later = [
        group
        for group in table
        if group.group_id not in seen and group.create_time is not None and group.create_time > last
        and group.prompt.strip() and informative(group)
    ]  # fmt: skip
    if not later:
        raise HoldOutError(
            f"no group with a pick is newer than what the families were trained on, which goes to {last.isoformat()}: "
            "a candidate is judged on later picks, so wait for some, or train on an earlier version of the table"
        )
    before = live.group_ids if live is not None else frozenset()
    learnt = candidate.group_ids - before if candidate is not None else frozenset()
    held_out = _newest(later, size)
    return Split(
        tuple(held_out),
        tuple(group for group in table if group.group_id in learnt),
        frozenset(group.user_id for group in held_out if any(family.knows(group.user_id) for family in used)),
    )


def _newest(groups: Sequence[Group], size: Size) -> list[Group]:
    """The last groups, of each merchant only so many."""
    counts, kept = Counter[str](), list[Group]()
    for group in reversed(groups):
        counts[group.user_id] += 1
        if counts[group.user_id] <= size.of_merchant:
            kept.append(group)
    return kept[: size.held_out][::-1]


def flooding(new: Sequence[Group], margins: GateMargins) -> list[str]:
    """That one merchant has too many of the new groups that a candidate was trained on, as a sentence."""
    if not new:
        return []
    merchant, count = Counter(group.user_id for group in new).most_common(1)[0]
    if count <= margins.most_merchant_share * len(new) or count < 2:
        return []
    return [
        f"one merchant ({hashed(merchant)}) has {count} of the {len(new)} new groups that the candidate was trained "
        f"on, {count / len(new):.0%}; {margins.most_merchant_share:.0%} are allowed"
    ]
