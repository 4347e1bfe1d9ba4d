"""Favours after a merchant's picks, cached so that later calls do not compute them again.

Knows that they are a pure function of (release, encoded features, picks), so an entry stays valid and none needs
invalidation. contract/history.py has the mathematics. Does not know users, nor where picks are kept.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.feature_schema import UNKNOWN, FeatureSchema
from contract.history import LAST_GROUPS, NO_HISTORY, HistoryVersion, choice_of
from contract.release import Release
from services.user_embedding.profiles import History, Slots, UserVectors

Favours = NDArray[np.float32]  # (V,)
_Key = tuple[int, Slots, History]


class PersonalFavours:
    """The posterior behind a least-recently-used memory of `capacity` entries."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: OrderedDict[_Key, tuple[Favours, HistoryVersion]] = OrderedDict()

    async def of(
        self, release: Release, slots: Slots, vectors: UserVectors, history: History
    ) -> tuple[UserVectors, HistoryVersion]:
        """The vectors with the favours after these picks; the very same ones where none says anything."""
        if release.population is None or not history:
            return vectors, NO_HISTORY
        key = (release.number, slots, history)
        found = self._known.get(key)
        if found is None:  # in a thread: milliseconds that other calls need not wait
            found = await asyncio.to_thread(_computed, release, slots, vectors, history)
            self._known[key] = found
        self._known.move_to_end(key)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return _with(vectors, found)


def _with(vectors: UserVectors, found: tuple[Favours, HistoryVersion]) -> tuple[UserVectors, HistoryVersion]:
    favours, version = found
    return (vectors if version.groups == 0 else replace(vectors, favours=favours)), version


def _computed(release: Release, slots: Slots, vectors: UserVectors, history: History) -> tuple[Favours, HistoryVersion]:
    assert release.population is not None
    told = [(group, choice_of(release.vocabulary, group.shown, group.picked)) for group in history]
    used = [(group, choice) for group, choice in told if choice is not None][-LAST_GROUPS:]
    if not used:
        return vectors.favours, NO_HISTORY
    favours = release.population.favours(
        vectors.favours, [choice for _, choice in used], unknown_share(release.feature_schema, slots)
    )
    return np.asarray(favours, np.float32), HistoryVersion(max(group.sequence for group, _ in used), len(used))


def unknown_share(schema: FeatureSchema, slots: Slots) -> float:
    """The share of the features of which a profile says nothing."""
    unknown = [all(slot == UNKNOWN for slot in slots[where]) for where in schema.slices]
    return sum(unknown) / len(unknown)
