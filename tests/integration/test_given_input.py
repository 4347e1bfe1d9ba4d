"""Prompts and pictures as people give them, against the real models: what counts, and what is said of the rest."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from perfusion.v1.generation_service_pb2 import SuggestPhrasesRequest
from perfusion.v1.group_pb2 import Scheduler
from perfusion.v1.ranking_service_pb2 import RankRequest
from PIL import Image

from deploy.local.clients import Clients
from deploy.local.cluster import Cluster
from tests.contract.picture_makers import RGBA, encoded, exchanged, png
from tests.integration.client import CALL_TIMEOUT_S, generate, new_user, request

CHINESE = "红色连衣裙长袖" * 4  # more tokens than the models read


@pytest.fixture(scope="module")
def user_id(clients: Clients, cluster: Cluster) -> str:
    return new_user(clients, cluster.layout)


@pytest.fixture(scope="module")
def garment(clients: Clients, user_id: str) -> bytes:
    return generate(clients, request(user_id, prompt="dress,red,v-neck", num_candidates=1)).group.candidates[0].png


def pixels(data: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def suggested_kinds(clients: Clients, user_id: str, prompt: str) -> set[str]:
    asked = SuggestPhrasesRequest(user_id=user_id, prompt=prompt, max_suggestions=50)
    return {s.kind for s in clients.generation.SuggestPhrases(asked, timeout=CALL_TIMEOUT_S).suggestions}


@pytest.mark.parametrize(
    "prompt",
    ["dress，v-neck、long  sleeves", "dress\nｖ‑ｎｅｃｋ\nlong sleeves", "\ufeffdress,\u200bv-neck,long\u00a0sleeves"],
)
def test_a_prompt_counts_in_every_writing(clients: Clients, user_id: str, prompt: str) -> None:
    plain = "dress,v-neck,long sleeves"
    assert suggested_kinds(clients, user_id, prompt) == suggested_kinds(clients, user_id, plain)
    groups = [generate(clients, request(user_id, prompt=typed, num_candidates=1)).group for typed in (prompt, plain)]
    assert groups[0].candidates[0].png == groups[1].candidates[0].png


@pytest.mark.parametrize("base", [CHINESE, ",".join(["long-hair model"] * 20)])
def test_the_end_of_a_long_prompt_counts_or_is_named(clients: Clients, user_id: str, base: str) -> None:
    short = generate(clients, request(user_id, prompt=base, num_candidates=1)).group
    long = generate(clients, request(user_id, prompt=f"{base},trousers,blue,striped", num_candidates=1)).group
    assert (short.candidates[0].png, short.candidates[0].score) != (long.candidates[0].png, long.candidates[0].score)
    assert list(long.unread_phrases) == ([CHINESE] if base == CHINESE else [])


def test_a_typed_special_token_hides_nothing_from_the_reward_model(
    clients: Clients, user_id: str, garment: bytes
) -> None:
    def score(prompt: str) -> float:
        asked = RankRequest(user_id=user_id, prompt=prompt, images=[garment])
        return clients.ranking.Rank(asked, timeout=CALL_TIMEOUT_S).scores[0].score

    assert score("dress<|endoftext|>,trousers,blue") != pytest.approx(score("dress"), abs=1e-3)


@pytest.mark.parametrize("scheduler", [1, 2, 3])
@pytest.mark.parametrize("num_steps", [1, 4])
def test_a_low_strength_keeps_the_reference(
    clients: Clients, user_id: str, garment: bytes, scheduler: Scheduler.ValueType, num_steps: int
) -> None:
    def painted(**reference: object) -> bytes:
        asked = request(
            user_id, prompt="trousers,blue", num_candidates=1, num_steps=num_steps, scheduler=scheduler, **reference
        )
        return generate(clients, asked).group.candidates[0].png

    kept, left = (painted(reference_image=garment, strength=strength) for strength in (0.01, 1.0))
    distances = [np.abs(pixels(picture) - pixels(garment)).mean() for picture in (kept, left)]
    assert distances[0] < 0.25 * distances[1]
    assert left == painted()


def test_references_are_seen_as_a_browser_shows_them(clients: Clients, user_id: str) -> None:
    """The same picture in other files: half transparent black in sixteen bits, red and green exchanged by a profile."""

    def painted(reference: bytes) -> NDArray[np.int16]:
        asked = request(user_id, num_candidates=1, num_steps=1, strength=0.01, reference_image=reference)
        return pixels(generate(clients, asked).group.candidates[0].png)

    grey = painted(encoded(Image.new("RGB", (64, 64), (128, 128, 128))))
    assert np.abs(painted(png((0, 0, 0, 0x7FFF), 16, RGBA, size=(64, 64))) - grey).max() <= 2
    green = painted(encoded(Image.new("RGB", (64, 64), (20, 230, 20))))
    assert (
        np.abs(painted(encoded(Image.new("RGB", (64, 64), (230, 20, 20)), icc_profile=exchanged())) - green).max() <= 2
    )
