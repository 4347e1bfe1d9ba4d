"""Known profiles are not encoded twice, and what is remembered is never another release's or profile's."""

import asyncio
from collections.abc import Sequence

import numpy as np

from contract.release import Release
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.ports import UserEncoder
from services.user_embedding.profiles import Slots, UserVectors
from tests.services.market import release_of


class CountingEncoder(UserEncoder):
    """Vectors that say which release and profile made them, and a list of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[Slots]]] = []

    async def encode(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        self.asked.append((release.number, list(rows)))
        vectors = [np.asarray([release.number, *row], np.float32) for row in rows]
        return [UserVectors(vector, vector, vector, vector) for vector in vectors]


def answer(embeddings: Embeddings, release: int, rows: list[Slots]) -> list[list[float]]:
    return [vectors.generator_user.tolist() for vectors in asyncio.run(embeddings.of(release_of(release), rows))]


def test_answers_come_in_the_order_asked_with_each_profile_encoded_once() -> None:
    encoder = CountingEncoder()
    embeddings = Embeddings(encoder, capacity=10)
    assert answer(embeddings, 1, [(5,), (3,), (5,)]) == [[1, 5], [1, 3], [1, 5]]
    assert answer(embeddings, 1, [(3,), (4,)]) == [[1, 3], [1, 4]]
    assert encoder.asked == [(1, [(5,), (3,)]), (1, [(4,)])]


def test_releases_do_not_share_vectors() -> None:
    embeddings = Embeddings(CountingEncoder(), capacity=10)
    assert answer(embeddings, 1, [(5,)]) == [[1, 5]]
    assert answer(embeddings, 2, [(5,)]) == [[2, 5]]


def test_the_least_recently_used_is_forgotten_first() -> None:
    encoder = CountingEncoder()
    embeddings = Embeddings(encoder, capacity=2)
    for row in [(1,), (2,), (1,), (3,), (1,), (2,)]:
        answer(embeddings, 1, [row])
    assert [rows for _, rows in encoder.asked] == [[(1,)], [(2,)], [(3,)], [(2,)]]


def test_a_batch_larger_than_the_memory_is_still_answered() -> None:
    embeddings = Embeddings(CountingEncoder(), capacity=1)
    assert answer(embeddings, 1, [(1,), (2,), (3,)]) == [[1, 1], [1, 2], [1, 3]]
