"""Which pictures are compared, and who rates them: sets matched by category, in balanced incomplete blocks.

A set has one item of each method, all of one category, chosen by chance. Each rater of a set rates all its pictures, so
that a strict rater is strict to every method alike. Raters get equal shares, and every two raters share equally many
sets, as far as the numbers allow. Knows items and raters; no pictures.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.measurement.errors import MeasurementError
from training.measurement.rating.items import Item


@dataclass(frozen=True)
class Matched:
    """Sets, and the items that found no partner."""

    sets: list[tuple[Item, ...]]  # each in the order of `methods`
    methods: tuple[str, ...]  # sorted
    left_out: list[Item]


def matched(items: Sequence[Item], rng: np.random.Generator) -> Matched:
    """Matches the items, gold ones aside.

    Raises:
        MeasurementError: there are fewer than two methods, or no category has items of all.
    """
    by_place: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        if not item.gold:
            by_place[item.category, item.method].append(item)
    methods = tuple(sorted({method for _, method in by_place}))
    if len(methods) < 2:
        raise MeasurementError(f"a comparison needs two methods at least; the list has {', '.join(methods) or 'none'}")
    sets: list[tuple[Item, ...]] = []
    for category in sorted({category for category, _ in by_place}):
        columns = [by_place[category, method] for method in methods]
        shuffled = [[column[n] for n in rng.permutation(len(column))] for column in columns]
        sets += zip(*shuffled, strict=False)  # as many as the method with the fewest
    if not sets:
        raise MeasurementError(f"no category has items of all methods: {', '.join(methods)}")
    used = {item.item_id for group in sets for item in group}
    left_out = [item for item in items if not item.gold and item.item_id not in used]
    return Matched([sets[n] for n in rng.permutation(len(sets))], methods, left_out)


def blocks(n_sets: int, n_raters: int, per_set: int, rng: np.random.Generator) -> np.ndarray:
    """Who rates which set, bool (n_sets, n_raters), with `per_set` raters each.

    Set by set the raters with the fewest sets come first, among them those who share the fewest with the ones already
    chosen; chance decides between equals. Shares differ by one at most.

    Raises:
        MeasurementError: a set wants more raters than there are.
    """
    if per_set > n_raters:
        raise MeasurementError(f"{per_set} raters are to see each picture, and there are {n_raters}")
    chosen = np.zeros((n_sets, n_raters), bool)
    shared = np.zeros((n_raters, n_raters))
    for row in chosen:
        load = chosen.sum(0)
        for _ in range(per_set):
            cost = np.where(row, np.inf, load * (n_sets * n_raters + 1.0) + shared[row].sum(0))
            row[rng.choice(np.flatnonzero(cost == cost.min()))] = True
        shared += np.outer(row, row)
    return chosen


def balance(chosen: np.ndarray) -> dict[str, int]:
    """How equal the shares came out: sets a rater, and sets that two raters share."""
    counts = chosen.astype(int)
    shared = (counts.T @ counts)[np.triu_indices(counts.shape[1], 1)]
    loads = counts.sum(0)
    return {
        "sets": len(chosen),
        "sets_of_a_rater_least": int(loads.min()), "sets_of_a_rater_most": int(loads.max()),
        "shared_by_two_raters_least": int(shared.min(initial=0 if not len(shared) else shared[0])),
        "shared_by_two_raters_most": int(shared.max(initial=0)),
    }  # fmt: skip
