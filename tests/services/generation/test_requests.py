"""From requests to orders; the refusals are in test_servicer_bad_input.py."""

import pytest
from perfusion.v1 import generation_service_pb2 as pb

from services.generation.orders import Settings
from services.generation.requests import fingerprint_of, group_query_of, order_of, suggestion_query_of
from services.runtime.images import ImageLimits
from tests.services.generation.conftest import request
from tests.services.market import release_of

LIMITS = ImageLimits(max_bytes=1000, max_pixels=1000)


def test_what_is_not_asked_for_is_filled_in_from_the_release() -> None:
    bare = pb.GenerateRequest(request_id=request().request_id.upper(), user_id="ada", prompt="dress", seed=3)
    order = order_of(bare, release_of(1), LIMITS)
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
    )


def test_what_is_asked_for_stays_as_it_was_said() -> None:
    order = order_of(
        request(scheduler=3, adapter_scale=0, refused_wishes=["Sequins", "sequins"]), release_of(1), LIMITS
    )
    assert (order.settings.sampler, order.settings.adapter_scale) == ("euler", 0)
    assert order.settings.refused_wishes == ("Sequins", "sequins")


@pytest.mark.parametrize("change", [{"seed": 8}, {"refused_wishes": ["sequins"]}, {"user_id": "bob"}])
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
