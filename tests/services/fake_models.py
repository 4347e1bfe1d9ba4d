"""Models that answer by plain arithmetic, behind the same interface as Triton's.

They keep the tensor contract's shapes and know which releases are loaded. What they compute is easy to foresee: a
user's vectors say which features made them, a phrase is favoured by its place, and a picture scores by how red it is.
"""

from collections.abc import Sequence

import numpy as np

from services.runtime.errors import Unavailable
from services.runtime.triton import Array, Models, NotLoaded, Tensors
from tests.services.market import PADDED_PHRASES, PADDED_SLOTS, REWARD_WIDTH, USER_WIDTH


class FakeModels(Models):
    """`down` makes every call fail as it does while Triton is away; `asked` lists (model, release, batch size)."""

    def __init__(self, releases: Sequence[int] = (1,)) -> None:
        self.loaded = set(releases)
        self.down = False
        self.asked: list[tuple[str, int, int]] = []

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        if self.down:
            raise Unavailable("triton", f"does not answer for {model}")
        if release not in self.loaded:
            raise NotLoaded(model, release)
        batch = len(next(iter(inputs.values())))
        assert batch <= 32, "a real model refuses more than its max_batch_size"
        self.asked.append((model, release, batch))
        return {"user_encoder": _user, "reward_text": _text, "reward_image": _image}[model](inputs, release)

    async def check(self, models: Sequence[str], release: int) -> None:
        if self.down or release not in self.loaded:
            raise Unavailable("triton")

    async def close(self) -> None:
        pass


def _user(inputs: Tensors, release: int) -> dict[str, Array]:
    features = inputs["features"]  # (B, F)
    assert features.dtype == np.int64 and features.shape[1] == PADDED_SLOTS
    base = np.zeros((len(features), USER_WIDTH), np.float32)
    base[:, 0], base[:, 1] = release, features @ (10 ** np.arange(features.shape[1]))
    return {
        "reward_text_user": base + [0, 0, 1, 0],
        "reward_image_user": base + [0, 0, 2, 0],
        "generator_user": base + [0, 0, 3, 0],
        "favours": np.tile(release + np.arange(PADDED_PHRASES, dtype=np.float32), (len(features), 1)),
    }


def _text(inputs: Tensors, release: int) -> dict[str, Array]:
    assert inputs["input_ids"].dtype == np.int64 and (inputs["user"][:, 2] == 1).all(), "wants the text user vector"
    embedding = np.zeros((len(inputs["input_ids"]), REWARD_WIDTH), np.float32)
    embedding[:, 0] = 1
    return {"embedding": embedding}


def _image(inputs: Tensors, release: int) -> dict[str, Array]:
    assert inputs["image"].dtype == np.uint8 and (inputs["user"][:, 2] == 2).all(), "wants the image user vector"
    red = inputs["image"][..., 0].mean((1, 2)) / 255
    embedding = np.zeros((len(red), REWARD_WIDTH), np.float32)
    embedding[:, 0], embedding[:, 1] = red, np.sqrt(1 - red**2)
    return {"embedding": embedding}
