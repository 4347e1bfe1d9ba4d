"""Which groups a retraining learns from, and how much each counts: all that were collected, and some original ones.

Original data keep a retraining from running after its own pictures, so they have at least a share of all weight. The
newest groups are held out for the gate. One merchant counts with no more than a share of the groups of any time, so
that nobody floods the models. Every arm counts alike: trainings compare the candidates of a group with each other,
whichever release drew them, and what was shown needs no correction by its propensity. No objective learns from a group
without a pick; such groups are counted. New groups whose pictures sold may weigh more (training.retraining.orders).
Knows groups; no pictures, no models.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from training.data.delta import delta_name, open_delta
from training.data.groups import GroupError
from training.data.table import Group
from training.retraining.plan import Rules
from training.retraining.traffic_gate import hashed

BLOCK = 1_000  # consecutive groups within which merchants are compared
TIMES_THE_MEAN = 3  # of the merchants of a block: who has fewer groups is no flood, however few merchants there are


@dataclass(frozen=True)
class Chosen:
    """What the rules make of the collected groups."""

    training: list[Group]
    held_out: list[Group]
    surplus: Counter[str] = field(default_factory=Counter)  # left-out groups of merchants who had too many, by user_id

    @property
    def since(self) -> datetime | None:
        """When the oldest held-out group was made."""
        return min((group.create_time for group in self.held_out if group.create_time), default=None)


def choose(groups: Sequence[Group], rules: Rules) -> Chosen:
    """Divides the collected groups, oldest first.

    Raises:
        GroupError: all would be held out, or a merchant has too many and the rules refuse that.
    """
    n_held = int(rules.hold_out if rules.hold_out >= 1 else len(groups) * rules.hold_out)
    if n_held >= len(groups):
        raise GroupError(f"{n_held} of {len(groups)} collected groups would be held out, and nothing new trains")
    cut = len(groups) - n_held
    training, surplus = list[Group](), Counter[str]()
    for at in range(0, cut, BLOCK):
        block = groups[at : min(at + BLOCK, cut)]
        kept, over = _capped(block, rules)
        training += kept
        surplus += over
    if surplus and rules.flood == "refuse":
        raise GroupError(f"{flood_text(surplus)}: their picks would count for all merchants'")
    return Chosen(training, list(groups[cut:]), surplus)


def _capped(block: Sequence[Group], rules: Rules) -> tuple[list[Group], Counter[str]]:
    """A block without the newest groups of merchants who have too many, and how many those are."""
    merchants = len({group.user_id for group in block})
    mean = len(block) / merchants
    most = max(rules.merchant_groups, int(rules.merchant_share * len(block)), int(TIMES_THE_MEAN * mean))
    counts, kept, over = Counter[str](), list[Group](), Counter[str]()
    for group in block:
        counts[group.user_id] += 1
        if counts[group.user_id] > most:
            over[group.user_id] += 1
        else:
            kept.append(group)
    return kept, over


def flood_text(surplus: Counter[str]) -> str:
    """Which merchants had too many groups, by their hashes: the text lies in the record, which no erasure reaches."""
    named = ", ".join(f"{hashed(user_id)} ({count} too many)" for user_id, count in surplus.most_common(5))
    more = f" and {len(surplus) - 5} more" if len(surplus) > 5 else ""
    return f"{len(surplus)} merchants have too many groups within a short time: {named}{more}"


@dataclass(frozen=True)
class Mixture:
    """In which order groups train, first the original ones, and how much each counts."""

    order: np.ndarray  # (N,) places among original + new groups, mixed
    weights: np.ndarray  # float32 (N,) in that order
    original: int  # informative groups
    original_weight: float  # of one original group
    new_weights: np.ndarray  # float (new informative groups,), each 1 but for what sold

    @property
    def new(self) -> int:
        """Informative new groups."""
        return len(self.new_weights)

    @property
    def original_share(self) -> float:
        """Of all informative groups' weight."""
        whole = self.original * self.original_weight
        return float(whole / (whole + self.new_weights.sum()))

    @property
    def effective_groups(self) -> float:
        """How many groups of equal weight say as much: the fewer originals are repeated often, the fewer."""
        whole = self.original * self.original_weight + self.new_weights.sum()
        return float(whole**2 / (self.original * self.original_weight**2 + (self.new_weights**2).sum()))

    def to_json(self) -> dict[str, Any]:
        """What the record says of it."""
        return {
            "original_groups": self.original, "new_groups": self.new, "original_weight": self.original_weight,
            "new_weight": float(self.new_weights.mean()), "original_share": self.original_share,
            "effective_groups": self.effective_groups,
        }  # fmt: skip


def mix(
    original: Sequence[Group], new: Sequence[Group], share: float, worth: Callable[[Group], float] | None = None
) -> Mixture:
    """Mixes both in an order that only the groups' ids decide, so that the last groups are a sample of all.

    Only groups with a pick and something passed over are counted; original ones weigh more where they are too few.

    Args:
        worth: the weight of a new group; None: 1 of each.

    Raises:
        GroupError: one of both has nothing to learn from.
    """
    n_original, n_new = sum(map(informative, original)), sum(map(informative, new))
    for count, name in ((n_original, "original"), (n_new, "new")):
        if not count:
            raise GroupError(f"no {name} group has both a pick and what was passed over")
    each = np.array([worth(group) if worth else 1.0 for group in new])
    new_weights = each[[informative(group) for group in new]]
    weight = max(1.0, float(share / (1 - share) * new_weights.sum() / n_original))
    groups = [*original, *new]
    places = [hashlib.sha256(group.group_id.encode()).digest() for group in groups]
    order = np.array(sorted(range(len(groups)), key=places.__getitem__))
    weights = np.concatenate([np.full(len(original), weight), each])[order].astype(np.float32)
    return Mixture(order, weights, n_original, float(np.float32(weight)), new_weights)


def informative(group: Group) -> bool:
    """Whether something was picked, and something passed over."""
    return len({candidate.selected for candidate in group.candidates}) == 2


def arms_of(table: Path, wanted: Collection[str]) -> Counter[str]:
    """How many of these groups each arm made; "unknown" where a table does not say."""
    name = delta_name(table)
    if name is None:
        return Counter({"unknown": len(wanted)})
    dataset = open_delta(name).to_pyarrow_dataset()
    if "arm" not in dataset.schema.names:
        return Counter({"unknown": len(wanted)})
    found = dataset.to_table(columns=["group_id", "arm"])
    pairs = zip(found["group_id"].to_pylist(), found["arm"].to_pylist(), strict=True)
    return Counter(arm or "unknown" for group_id, arm in pairs if group_id in wanted)
