"""Bad input against the real cluster: a clear status that names the field, and nothing recorded."""

import io
import math
from typing import Any

import grpc
import numpy as np
import pytest
from perfusion.v1.generation_service_pb2 import GetGroupRequest
from perfusion.v1.user_embedding_service_pb2 import GetUserProfileRequest, PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue
from PIL import Image

from deploy.local.clients import Clients
from deploy.local.cluster import Cluster
from tests.integration.client import (
    CALL_TIMEOUT_S,
    NOTHING,
    Kept,
    fields_blamed,
    generate,
    kept,
    new_id,
    new_user,
    pick,
    request,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def user_id(clients: Clients, cluster: Cluster) -> str:
    return new_user(clients, cluster.layout)


def png(width: int, height: int) -> bytes:
    """Compresses to a few kilobytes however many pixels it claims."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "PNG")
    return file.getvalue()


BAD_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "empty prompt": ("prompt", {"prompt": ""}),
    "blank prompt": ("prompt", {"prompt": " \t "}),
    "prompt without a phrase": ("prompt", {"prompt": " , ,"}),
    "10,000 characters": ("prompt", {"prompt": "a" * 10_000}),
    "no candidates": ("num_candidates", {"num_candidates": 0}),
    "100 candidates": ("num_candidates", {"num_candidates": 100}),
    "no steps": ("num_steps", {"num_steps": 0}),
    "negative steps": ("num_steps", {"num_steps": -1}),
    "101 steps": ("num_steps", {"num_steps": 101}),
    "NaN guidance": ("guidance_scale", {"guidance_scale": math.nan}),
    "infinite guidance": ("guidance_scale", {"guidance_scale": math.inf}),
    "NaN adapter scale": ("adapter_scale", {"adapter_scale": math.nan}),
    "negative seed": ("seed", {"seed": -1}),
    "broken reference image": ("reference_image", {"reference_image": b"\x89PNG\r\n\x1a\n broken"}),
    "truncated reference image": ("reference_image", {"reference_image": png(64, 64)[:60]}),
    "huge reference image": ("reference_image", {"reference_image": png(20_000, 20_000)}),
    "too many bytes of reference image": ("reference_image", {"reference_image": bytes(11 * 2**20)}),
    "strength without image": ("strength", {"strength": 0.5}),
    "empty refused wish": ("refused_wishes[0]", {"refused_wishes": [""]}),
    "malformed request id": ("request_id", {"request_id": "not-a-uuid"}),
    "no request id": ("request_id", {"request_id": ""}),
}


@pytest.mark.parametrize(("field", "changes"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_generate_names_the_field_and_records_nothing(
    clients: Clients, cluster: Cluster, user_id: str, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        generate(clients, request(user_id, **changes))
    assert refused.value.code() == INVALID
    assert fields_blamed(refused.value) == {field}
    assert kept(clients, cluster.layout, user_id) == NOTHING


def test_generate_for_an_unknown_user_is_not_found(clients: Clients, cluster: Cluster) -> None:
    stranger = f"stranger-{new_id()}"
    with pytest.raises(grpc.RpcError) as refused:
        generate(clients, request(stranger))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert kept(clients, cluster.layout, stranger) == NOTHING


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shoe_size", FeatureValue(string_value="42")),
        ("style", FeatureValue(string_value="no such style")),
        ("style", FeatureValue(number_value=1.0)),
        ("years_open", FeatureValue(number_value=math.nan)),
        ("style", FeatureValue()),
    ],
    ids=["unknown feature", "unknown value", "another kind", "NaN", "no value"],
)
def test_a_bad_profile_names_the_feature_and_is_not_stored(clients: Clients, name: str, value: FeatureValue) -> None:
    user_id = f"merchant-{new_id()}"
    with pytest.raises(grpc.RpcError) as refused:
        clients.users.PutUserProfile(
            PutUserProfileRequest(user_id=user_id, features={name: value}), timeout=CALL_TIMEOUT_S
        )
    assert refused.value.code() == INVALID
    assert any(name in blamed for blamed in fields_blamed(refused.value))
    with pytest.raises(grpc.RpcError) as missing:
        clients.users.GetUserProfile(GetUserProfileRequest(user_id=user_id), timeout=CALL_TIMEOUT_S)
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_deadline_that_expires_ends_the_call_and_records_nothing(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    with pytest.raises(grpc.RpcError) as late:
        generate(clients, request(user_id, num_candidates=16, num_steps=100), timeout_s=0.5)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert kept(clients, cluster.layout, user_id) == NOTHING


def test_a_malformed_group_id_is_invalid(clients: Clients) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        clients.generation.GetGroup(GetGroupRequest(group_id="../../etc"), timeout=CALL_TIMEOUT_S)
    assert refused.value.code() == INVALID
    assert fields_blamed(refused.value) == {"group_id"}


ONE_GROUP = Kept(groups=1, generated_events=1, feedback_events=0)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"selected_image_ids": ["6f1d9b1e-0000-4000-8000-000000000000"]}, INVALID),
        ({"selected_image_ids": ["not-a-uuid"]}, INVALID),
        ({"request_id": "not-a-uuid"}, INVALID),
        ({"group_id": "not-a-uuid"}, INVALID),
        ({"group_id": "6f1d9b1e-0000-4000-8000-000000000000"}, grpc.StatusCode.NOT_FOUND),
        ({"user_id": "somebody-else"}, grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=[
        "picture of no group",
        "malformed picture",
        "malformed request",
        "malformed group",
        "unknown group",
        "not theirs",
    ],
)
def test_a_pick_that_does_not_fit_the_group_is_refused(
    clients: Clients, cluster: Cluster, user_id: str, changes: dict[str, Any], status: grpc.StatusCode
) -> None:
    group = generate(clients, request(user_id)).group
    with pytest.raises(grpc.RpcError) as refused:
        clients.feedback.SubmitFeedback(pick(clients, group, **changes), timeout=CALL_TIMEOUT_S)
    assert refused.value.code() == status
    assert kept(clients, cluster.layout, user_id) == ONE_GROUP


def test_a_picture_of_another_group_cannot_be_picked(clients: Clients, cluster: Cluster, user_id: str) -> None:
    mine, other = (generate(clients, request(user_id)).group for _ in range(2))
    with pytest.raises(grpc.RpcError) as refused:
        clients.feedback.SubmitFeedback(
            pick(clients, mine, selected_image_ids=[other.candidates[0].image_id]), timeout=CALL_TIMEOUT_S
        )
    assert refused.value.code() == INVALID
    assert kept(clients, cluster.layout, user_id).feedback_events == 0


def test_a_second_different_pick_for_one_request_is_refused(clients: Clients, cluster: Cluster, user_id: str) -> None:
    group = generate(clients, request(user_id)).group
    first = pick(clients, group)
    clients.feedback.SubmitFeedback(first, timeout=CALL_TIMEOUT_S)
    other = pick(clients, group, request_id=first.request_id, selected_image_ids=[group.candidates[1].image_id])
    with pytest.raises(grpc.RpcError) as refused:
        clients.feedback.SubmitFeedback(other, timeout=CALL_TIMEOUT_S)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert kept(clients, cluster.layout, user_id).feedback_events == 1
