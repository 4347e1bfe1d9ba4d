"""The encoder keeps to the model's batch size and padded tensors, and takes nothing unusable for a vector."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.runtime.errors import Unavailable
from services.runtime.triton import Array, Tensors
from services.user_embedding.adapters.encoder import TritonUserEncoder
from tests.services.fake_models import FakeModels
from tests.services.market import PADDED_SLOTS, PHRASES, release_of


class Unwell(FakeModels):
    """Answers with something that is not what was asked for."""

    def __init__(self, spoil: str) -> None:
        super().__init__()
        self.spoil = spoil

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        answer = await super().infer(model, inputs, release)
        vectors = answer["generator_user"]
        spoilt: dict[str, Array | None] = {
            "empty": vectors[:0],
            "narrow": vectors[:, 1:],
            "nan": vectors * np.nan,
            "missing": None,
        }
        answer.pop("generator_user")
        replacement = spoilt[self.spoil]
        return answer if replacement is None else {**answer, "generator_user": replacement}


async def test_many_profiles_are_split_into_batches_and_keep_their_order() -> None:
    models = FakeModels()
    rows: Sequence[tuple[int, ...]] = [(i, 0, 0, 0, 0) for i in range(70)]
    vectors = await TritonUserEncoder(models, max_batch=32).encode(release_of(1), rows)
    assert [vector.generator_user[1] for vector in vectors] == list(range(70))
    assert models.asked == [("user_encoder", 1, 32), ("user_encoder", 1, 32), ("user_encoder", 1, 6)]


@pytest.mark.parametrize("spoil", ["empty", "narrow", "nan", "missing"])
async def test_an_unusable_answer_is_retryable_and_not_a_vector(spoil: str) -> None:
    with pytest.raises(Unavailable, match="generator_user"):
        await TritonUserEncoder(Unwell(spoil), max_batch=32).encode(release_of(1), [(1, 2, 0, 0, 0)])


async def test_slots_are_padded_with_zeros_and_favours_cut_to_the_phrases_in_use() -> None:
    class Seeing(FakeModels):
        async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
            assert inputs["features"].tolist() == [[1, 2, 3, 4, 5, *[0] * (PADDED_SLOTS - 5)]]
            return await super().infer(model, inputs, release)

    [vectors] = await TritonUserEncoder(Seeing(), max_batch=32).encode(release_of(1), [(1, 2, 3, 4, 5)])
    assert vectors.favours.tolist() == [1 + n for n in range(PHRASES)]
