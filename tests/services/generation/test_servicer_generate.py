"""A round over real gRPC: what the stream says, what is kept, and what is told to Kafka."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1 import group_pb2
from perfusion.v1.events_pb2 import GroupGenerated
from perfusion.v1.group_pb2 import Candidate
from perfusion.v1.user_pb2 import HistoryVersion
from PIL import Image

from contract.wishes import with_wishes
from services.runtime.events import headers_of
from tests.services.generation.conftest import Studio, request
from tests.services.generation.fakes import PROFILE, USER
from tests.services.market import IMAGE_SIZE_PX


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)  # (H, W, 3)


def png_of(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_stream_is_accepted_then_each_step_then_the_group_best_first(studio: Studio) -> None:
    events = await studio.stream(request())
    assert events[0].accepted.release == 1
    assert [(e.progress.step, e.progress.num_steps) for e in events[1:-1]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    group = events[-1].group
    assert [(c.rank, c.seed, c.score) for c in group.candidates] == [(1, 9, 2.0), (2, 8, 1.0), (3, 7, 0.0)]
    assert (group.user_id, group.prompt, group.release) == ("ada", "red,dress", 1)
    assert picture(group.candidates[0].png).shape == (IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)


async def test_what_is_not_asked_for_comes_from_the_release(studio: Studio) -> None:
    bare = pb.GenerateRequest(request_id=request().request_id, user_id="ada", prompt="dress")
    group = await studio.group(bare)
    assert len(group.candidates) == 5
    assert (group.settings.num_steps, group.settings.guidance_scale, group.settings.adapter_scale) == (20, 4.0, 1.0)
    assert group.settings.scheduler == group_pb2.SCHEDULER_DDIM
    assert not group.settings.HasField("strength")


async def test_zero_is_not_unset(studio: Studio) -> None:
    group = await studio.group(request(seed=0, guidance_scale=0, adapter_scale=0))
    assert (group.settings.seed, group.settings.guidance_scale, group.settings.adapter_scale) == (0, 0, 0)
    assert sorted(c.seed for c in group.candidates) == [0, 1, 2]


async def test_all_candidates_share_one_call_a_step(studio: Studio) -> None:
    await studio.group(request(num_candidates=5, num_steps=6))
    assert [asked for asked in studio.models.asked if asked[0] == "denoiser"] == [("denoiser", 1, 5)] * 6


async def test_users_are_asked_once_a_round(studio: Studio) -> None:
    await studio.group(request())
    assert studio.users.asked == ["vectors"]
    [ranked_for] = studio.ranker.users
    assert ranked_for is not None and ranked_for.reward_image is USER.reward_image


async def test_every_distinct_text_is_read_once_in_one_call(studio: Studio) -> None:
    group = await studio.group(request(num_candidates=16, negative_prompt="blue"))
    texts = {"red,dress", "blue", *(with_wishes("red,dress", c.wishes) for c in group.candidates)}
    assert [asked for asked in studio.models.asked if asked[0] == "text_encoder"] == [("text_encoder", 1, len(texts))]


async def test_candidates_are_wished_what_the_merchant_favours_and_differ_where_they_hardly_care(
    studio: Studio,
) -> None:
    wished = [list(c.wishes) for c in (await studio.group(request(num_candidates=16))).candidates]
    assert all(wishes[0] == "sequins" for wishes in wished)
    assert {wishes[1] for wishes in wished} == {"long sleeves", "bell sleeves"}


async def test_a_wish_that_was_refused_gives_way_to_the_next_best_of_its_kind(studio: Studio) -> None:
    group = await studio.group(request(num_candidates=5, refused_wishes=["Bell Sleeves", "never heard of"]))
    assert all(list(c.wishes) == ["sequins", "long sleeves"] for c in group.candidates)
    assert list(group.settings.refused_wishes) == ["Bell Sleeves", "never heard of"]


async def test_a_group_without_personalisation_has_no_wishes(studio: Studio) -> None:
    assert not any(c.wishes for c in (await studio.group(request(adapter_scale=0))).candidates)


async def test_previews_come_every_nth_step(studio: Studio) -> None:
    events = await studio.stream(request(num_steps=5, preview_every_n_steps=2))
    assert [len(e.progress.previews) for e in events[1:-1]] == [0, 3, 0, 3, 0]
    assert picture(events[2].progress.previews[0]).shape == (IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)


@pytest.mark.parametrize("scheduler", [1, 2, 3])
async def test_the_last_previews_are_the_pictures_and_are_decoded_once(
    studio: Studio, scheduler: group_pb2.Scheduler
) -> None:
    plain = await studio.group(request(scheduler=scheduler))
    studio.models.asked.clear()
    *_, last, ended = await studio.stream(request(scheduler=scheduler, preview_every_n_steps=1))
    assert [model for model, *_ in studio.models.asked].count("vae_decoder") == 4
    in_seed_order = [c.png for c in sorted(ended.group.candidates, key=lambda c: c.seed)]
    assert in_seed_order == list(last.progress.previews)
    assert in_seed_order == [c.png for c in sorted(plain.candidates, key=lambda c: c.seed)]


@pytest.mark.parametrize("scheduler", [1, 2, 3])
async def test_a_candidates_seed_alone_reproduces_it(studio: Studio, scheduler: group_pb2.Scheduler) -> None:
    group = await studio.group(request(num_candidates=4, scheduler=scheduler))
    pictures = {c.png for c in group.candidates}
    assert len(pictures) == 4
    for candidate in group.candidates:
        alone = await studio.group(request(num_candidates=1, seed=candidate.seed, scheduler=scheduler))
        assert alone.candidates[0].png == candidate.png
        assert alone.candidates[0].wishes == candidate.wishes


async def test_personalisation_can_be_switched_off(studio: Studio) -> None:
    personal = await studio.group(request(guidance_scale=5))
    plain = await studio.group(request(guidance_scale=5, adapter_scale=0))
    assert personal.candidates[0].png != plain.candidates[0].png


async def test_the_negative_prompt_counts(studio: Studio) -> None:
    without, with_one = await studio.group(request()), await studio.group(request(negative_prompt="red sleeveless"))
    assert without.candidates[0].png != with_one.candidates[0].png
    assert with_one.negative_prompt == "red sleeveless"


async def test_a_reference_image_is_kept_to_when_the_strength_is_low(studio: Studio) -> None:
    reference = png_of("#e04020")
    near = await studio.stream(request(reference_image=reference, strength=0.1, num_steps=20))
    far = await studio.stream(request(reference_image=reference, strength=1.0, num_steps=20))
    assert [len(near) - 2, len(far) - 2] == [2, 20]
    distances = [np.abs(picture(e[-1].group.candidates[0].png) - (224, 64, 32)).mean() for e in (near, far)]
    assert distances[0] < 0.5 * distances[1]
    assert [c.png for c in far[-1].group.candidates] == [
        c.png for c in (await studio.group(request(num_steps=20))).candidates
    ]
    settings = near[-1].group.settings
    assert settings.strength == 0.1
    assert settings.reference_image_sha256 == hashlib.sha256(reference).hexdigest()


@pytest.mark.parametrize("scheduler", [1, 2, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 6])
async def test_a_low_strength_keeps_to_the_reference_with_few_steps_too(
    studio: Studio, scheduler: group_pb2.Scheduler, num_steps: int
) -> None:
    async def distance(strength: float) -> float:
        asked = request(reference_image=png_of("#e04020"), strength=strength, num_steps=num_steps, scheduler=scheduler)
        return float(np.abs(picture((await studio.group(asked)).candidates[0].png) - (224, 64, 32)).mean())

    assert await distance(0.01) < 0.2 * await distance(1.0)


async def test_pictures_lie_under_the_hash_of_their_bytes(studio: Studio) -> None:
    for candidate in (await studio.group(request())).candidates:
        content = Path(candidate.uri.removeprefix("file://")).read_bytes()
        assert content == candidate.png
        assert candidate.uri.endswith(f"/{hashlib.sha256(content).hexdigest()}.png")


async def test_kafka_is_told_all_that_training_needs(studio: Studio) -> None:
    group = await studio.group(request(negative_prompt="blue"))
    [event] = studio.events.published
    told = GroupGenerated.FromString(event.value)
    assert (event.topic, event.key) == ("perfusion.groups.v1", "ada")
    assert dict(headers_of(event))["event-type"] == b"perfusion.v1.GroupGenerated"
    for field in (
        "group_id",
        "request_id",
        "user_id",
        "prompt",
        "negative_prompt",
        "release",
        "create_time",
        "settings",
    ):
        assert getattr(told, field) == getattr(group, field), field
    assert dict(told.user_features) == PROFILE
    assert told.history == HistoryVersion(sequence=41, groups=3)
    for ours, theirs in zip(told.candidates, group.candidates, strict=True):
        assert theirs.png and theirs.wishes
        shown = Candidate()
        shown.CopyFrom(theirs)
        shown.ClearField("png")
        assert ours == shown
