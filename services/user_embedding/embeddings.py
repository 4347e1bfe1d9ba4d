"""User vectors of encoded profiles, cached so that a merchant's later rounds do not call the encoder again.

Knows that the encoder is a pure function of (release, encoded features), so an entry stays valid and none
needs invalidation: a changed profile has other features, a new release another key.
Does not know users, profiles, or how the encoder is reached.
"""

from collections import OrderedDict
from collections.abc import Sequence

from contract.release import Release
from services.user_embedding.ports import UserEncoder
from services.user_embedding.profiles import Slots, UserVectors


class Embeddings:
    """The encoder behind a least-recently-used memory of `capacity` entries."""

    def __init__(self, encoder: UserEncoder, capacity: int) -> None:
        self._encoder = encoder
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, Slots], UserVectors] = OrderedDict()

    async def of(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        """Vectors in the given order; only profiles that are not cached reach the encoder."""
        found = {row: vectors for row in rows if (vectors := self._recall(release, row)) is not None}
        missing = [row for row in dict.fromkeys(rows) if row not in found]
        if missing:
            fresh = await self._encoder.encode(release, missing)
            found.update(zip(missing, fresh, strict=True))
            self._remember(release, missing, fresh)
        return [found[row] for row in rows]

    def _recall(self, release: Release, row: Slots) -> UserVectors | None:
        vectors = self._known.get((release.number, row))
        if vectors is not None:
            self._known.move_to_end((release.number, row))
        return vectors

    def _remember(self, release: Release, rows: Sequence[Slots], fresh: Sequence[UserVectors]) -> None:
        for row, vectors in zip(rows, fresh, strict=True):
            self._known[(release.number, row)] = vectors
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
