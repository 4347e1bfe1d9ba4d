"""From requests to orders; the refusals are in test_servicer_bad_input.py."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfusion.v1 import generation_service_pb2 as pb
from PIL import Image

from contract.prompts import phrases_of
from services.generation.orders import Settings
from services.generation.requests import fingerprint_of, group_query_of, order_of, suggestion_query_of
from services.runtime.errors import InvalidArgument
from services.runtime.images import Decoder, ImageLimits
from tests.contract.picture_makers import encoded
from tests.contract.test_prompts import texts
from tests.services.generation.conftest import request
from tests.services.market import release_of

SMALL = encoded(Image.new("RGB", (9, 8), "red"))
DECODER = Decoder(ImageLimits(max_bytes=1000, max_pixels=1000))


async def test_what_is_not_asked_for_is_filled_in_from_the_release() -> None:
    bare = pb.GenerateRequest(request_id=request().request_id.upper(), user_id="ada", prompt="dress", seed=3)
    order = await order_of(bare, release_of(1), DECODER)
    assert order.request_id == bare.request_id.lower() and order.num_candidates == 5
    assert order.settings == Settings(
        num_steps=20,
        guidance_scale=4.0,
        adapter_scale=1.0,
        sampler="ddim",
        seed=3,
        strength=None,
        reference_image_sha256="",
        refused_wishes=(),
        variety=0.15,
    )


async def test_what_is_asked_for_stays_as_it_was_said() -> None:
    asked = request(scheduler=3, adapter_scale=0, refused_wishes=["Sequins", "sequins"])
    order = await order_of(asked, release_of(1), DECODER)
    assert (order.settings.sampler, order.settings.adapter_scale) == ("euler", 0)
    assert order.settings.refused_wishes == ("Sequins", "sequins")


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"refused_wishes": ["sequins"]}, {"variety": 0.15}, {"user_id": "bob"}]
)
def test_requests_that_differ_have_other_fingerprints(change: dict[str, object]) -> None:
    assert fingerprint_of(request()) == fingerprint_of(request())  # though their ids differ
    assert fingerprint_of(request()) != fingerprint_of(request(**change))


@pytest.mark.parametrize(
    ("view", "wanted"), [(pb.GROUP_VIEW_UNSPECIFIED, True), (pb.GROUP_VIEW_BASIC, False), (pb.GROUP_VIEW_FULL, True)]
)
def test_pictures_are_read_unless_the_view_leaves_them_out(view: pb.GroupView, wanted: bool) -> None:
    group_id = request().request_id
    assert group_query_of(pb.GetGroupRequest(group_id=group_id, view=view)) == (group_id, wanted)


def test_an_empty_suggestion_query_has_its_defaults() -> None:
    query = suggestion_query_of(pb.SuggestPhrasesRequest(user_id="ada"))
    assert (query.prompt, query.prefix, query.most) == ("", "", 10)


@given(
    texts,
    texts,
    st.lists(texts, max_size=4),
    st.one_of(st.none(), st.floats()),
    st.one_of(st.just(b""), st.binary(max_size=60), st.just(SMALL), st.just(SMALL[:60])),
)
def test_every_request_is_an_order_or_names_its_wrong_fields(
    prompt: str, negative_prompt: str, refused: list[str], strength: float | None, reference: bytes
) -> None:
    asked = request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        refused_wishes=refused,
        strength=strength,
        reference_image=reference,
    )
    try:
        order = asyncio.run(order_of(asked, release_of(1), DECODER))
    except InvalidArgument as refusal:
        named = {field.split("[")[0] for field, _ in refusal.violations}
        assert named and named <= {"prompt", "negative_prompt", "refused_wishes", "strength", "reference_image"}
        assert ("prompt" in named) <= (not phrases_of(prompt) or "\0" in prompt)
    else:
        assert phrases_of(prompt) and order.prompt == prompt
        assert (order.reference is None) == (reference == b"")
        assert order.reference is None or order.reference.shape == (16, 16, 3)
