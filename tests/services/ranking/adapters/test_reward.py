"""The reward model is asked for the right release in batches it accepts, and nothing unusable becomes a score."""

from pathlib import Path

import numpy as np
import pytest

from contract.release import Release
from services.ranking.adapters.reward import TritonRewardModel
from services.ranking.ports import RewardUser
from services.runtime.errors import Unavailable
from services.runtime.triton import Array, Tensors
from tests.services.fake_models import FakeModels
from tests.services.market import IMAGE_SIZE_PX, REWARD_WIDTH, TEXT_TOKENS, write_release

USER = RewardUser(text=np.asarray([1, 0, 1, 0], np.float32), image=np.asarray([1, 0, 2, 0], np.float32))


class Recording(FakeModels):
    """Keeps what it was given, and may spoil what it answers."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.spoil = spoil
        self.given: list[Tensors] = []

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        self.given.append(inputs)
        embedding = (await super().infer(model, inputs, release))["embedding"]
        spoilt = {"": embedding, "empty": embedding[:0], "narrow": embedding[:, :-1], "nan": embedding * np.nan}
        return {} if self.spoil == "missing" else {"embedding": spoilt[self.spoil]}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return write_release(tmp_path, 1)


def pictures(count: int) -> Array:
    """Each redder than the one before  # (N, H, W, 3)"""
    images = np.zeros((count, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3), np.uint8)
    images[..., 0] = np.arange(count)[:, None, None]
    return images


async def test_a_prompt_reaches_the_text_tower_as_tokens(release: Release) -> None:
    models = Recording()
    embedding = await TritonRewardModel(models, max_batch=32).text(release, "red dress", USER)
    assert embedding.shape == (REWARD_WIDTH,)
    # begin, red, dress, end, and padding with the end
    assert models.given[0]["input_ids"].tolist() == [[0, 3, 4, *[1] * (TEXT_TOKENS - 3)]]


async def test_a_prompt_too_long_for_the_model_loses_its_end(release: Release) -> None:
    models = Recording()
    await TritonRewardModel(models, max_batch=32).text(release, "red " * 200, USER)
    assert models.given[0]["input_ids"].tolist() == [[0, *[3] * (TEXT_TOKENS - 2), 1]]


async def test_many_pictures_are_split_into_batches_and_keep_their_order(release: Release) -> None:
    models = Recording()
    embeddings = await TritonRewardModel(models, max_batch=32).images(release, pictures(64), USER)
    assert embeddings.shape == (64, REWARD_WIDTH)
    assert (np.diff(embeddings[:, 0]) > 0).all()
    assert models.asked == [("reward_image", 1, 32)] * 2


@pytest.mark.parametrize("spoil", ["missing", "empty", "narrow", "nan"])
async def test_an_unusable_answer_is_retryable_and_not_a_score(release: Release, spoil: str) -> None:
    with pytest.raises(Unavailable, match="unusable"):
        await TritonRewardModel(Recording(spoil), max_batch=32).images(release, pictures(3), USER)
