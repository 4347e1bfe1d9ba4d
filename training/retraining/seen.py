"""Sets of ids that hold millions: 8 bytes an id, and now and then one too many.

Knows hashes; nothing about what the ids are of.
"""

import hashlib
from collections.abc import Iterable

import numpy as np


class Seen:
    """A set that may take an id for one it holds (once in 10^19 / its size), and never the other way round."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._kept = np.unique(_hashes(ids))  # (N,) uint64, ascending
        self._new: set[int] = set()

    def add(self, ids: Iterable[str]) -> None:
        """Adds these."""
        self._new.update(number for number in map(_hash, ids) if not self._holds(number))
        if len(self._new) > 100_000:
            self._kept = np.union1d(self._kept, np.fromiter(self._new, np.uint64, len(self._new)))
            self._new.clear()

    def __contains__(self, identity: str) -> bool:
        return self._holds(_hash(identity))

    def _holds(self, number: int) -> bool:
        if number in self._new:
            return True
        place = int(np.searchsorted(self._kept, np.uint64(number)))
        return place < len(self._kept) and int(self._kept[place]) == number

    def __len__(self) -> int:
        """How many ids it holds."""
        return len(self._kept) + len(self._new)


def _hash(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")


def _hashes(ids: Iterable[str]) -> np.ndarray:
    return np.fromiter(map(_hash, ids), np.uint64)
