"""What the models are given: texts read once a round, weighed by the adapter scale, and the same at every step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contract.release import Release
from contract.wishes import with_wishes
from services.generation.metrics import GenerationMetrics
from services.generation.orders import User
from services.generation.painting import Painted, Painter
from services.generation.seeds import candidate_seeds
from services.generation.stepping import Denoiser
from services.runtime import patience
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Array, Tensors
from tests.services.generation.fakes import USER, PaintingModels
from tests.services.generation.test_wishing import order
from tests.services.market import write_release


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return write_release(tmp_path, 1)


@pytest.fixture
def models() -> PaintingModels:
    return PaintingModels()


@pytest.fixture
def painter(models: PaintingModels) -> Painter:
    return Painter(models, Tokenizers(), GenerationMetrics(CollectorRegistry()))


async def painted(
    painter: Painter, release: Release, prompt: str = "red,dress", user: User = USER, batch: int = 3, **settings: Any
) -> Painted:
    asked = order(prompt, **settings)
    denoiser = Denoiser(
        painter._models, painter._metrics, calls=1, least_rows=16, most_rows=32, quantum=100, limit=1
    )  # fmt: skip
    async with denoiser.round("ada", batch, asked.settings.num_steps) as turn:
        assert [queued async for queued in turn.queue()] == []
        *_, last = [event async for event in painter.paint(asked, candidate_seeds(7, batch), user, release, turn)]
    assert isinstance(last, Painted)
    return last


def states(release: Release, text: str) -> np.ndarray:
    """What the fake text encoder says of a text  # (T, D)"""
    ids = Tokenizers().generator(release).encode([text])[0]
    return np.repeat(np.sin(ids[:, None]).astype(np.float32), release.sizes.text_width, axis=-1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
async def test_each_candidates_text_is_as_far_from_the_plain_prompt_as_the_adapter_scale_says(
    painter: Painter, models: PaintingModels, release: Release, scale: float
) -> None:
    made = await painted(painter, release, adapter_scale=scale)
    plain = states(release, "red,dress")
    assert len(models.denoised) == 4
    for given in models.denoised:
        for text, wishes in zip(given["text"], made.wishes, strict=True):
            wished = states(release, with_wishes("red,dress", wishes))
            np.testing.assert_allclose(text, plain + scale * (wished - plain), rtol=1e-5, atol=1e-6)
        assert (given["adapter_scale"] == scale).all() and (given["user"] == USER.generator).all()
        np.testing.assert_array_equal(given["negative_text"], np.stack([states(release, "")] * 3))
    assert any(made.wishes) == (scale > 0)


async def test_at_scale_one_the_text_is_the_wished_prompt_to_the_last_bit(
    painter: Painter, models: PaintingModels, release: Release
) -> None:
    made = await painted(painter, release)
    expected = [states(release, with_wishes("red,dress", wishes)) for wishes in made.wishes]
    assert np.array_equal(models.denoised[0]["text"], np.stack(expected))


async def test_the_empty_negative_prompt_is_read_once_a_release(
    painter: Painter, models: PaintingModels, release: Release, tmp_path: Path
) -> None:
    for _ in range(2):
        await painted(painter, release, adapter_scale=0.0)
    models.loaded.add(2)
    await painted(painter, write_release(tmp_path, 2), adapter_scale=0.0)
    texts = [len(ids) for ids in models.read]
    assert texts == [2, 1, 2]
    assert all(np.array_equal(given["negative_text"][0], states(release, "")) for given in models.denoised)


async def test_wishes_that_the_text_encoder_would_not_read_are_not_reported(
    painter: Painter, models: PaintingModels, release: Release
) -> None:
    words = release.sizes.text_tokens - 2  # beside begin and end
    full = "dress," + "red " * (words - 2)
    room_for_one = "dress," + "red " * (words - 4)  # a comma and "sequins"
    assert (await painted(painter, release, full)).wishes == ((), (), ())
    assert (await painted(painter, release, room_for_one)).wishes == (("sequins",),) * 3
    last = models.read[-1]
    assert (last[:, -1] == 1).all()  # every text ends with its end


async def test_an_unknown_merchants_text_is_the_plain_prompt(
    painter: Painter, models: PaintingModels, release: Release
) -> None:
    made = await painted(painter, release, user=replace(USER, favours=np.zeros_like(USER.favours)))
    assert made.wishes == ((), (), ())
    assert np.array_equal(models.denoised[0]["text"], np.stack([states(release, "red,dress")] * 3))


async def test_from_the_first_step_on_a_round_outlasts_its_server(
    painter: Painter, release: Release, models: PaintingModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlasts: dict[str, bool] = {}
    infer = models.infer

    async def watched(model: str, inputs: Tensors, number: int) -> dict[str, Array]:
        outlasts[model] = patience._outlasts.get()
        return await infer(model, inputs, number)

    monkeypatch.setattr(models, "infer", watched)
    models.failing_steps = range(2, 3)
    await painted(painter, release)
    assert models.steps == 5, "four, and the one that failed"
    assert (outlasts["text_encoder"], outlasts["vae_decoder"]) == (False, True)
    assert not patience._outlasts.get()
