"""Asking the running cluster for rounds, and looking at what it kept: the vocabulary of the integration tests."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest
from perfusion.v1.generation_service_pb2 import GenerateProgress, GenerateRequest, ListGroupsRequest
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue, StringList

from contract import topics
from contract.feature_schema import Feature
from contract.release import read_release, release_dir
from deploy.local.clients import Clients, read_events
from deploy.local.layout import Layout

PROMPT = "dress,v-neck,slim-fit"
CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Round:
    """Everything one Generate stream said."""

    group_id: str
    release: int
    progress: list[GenerateProgress]
    group: Group


def new_id() -> str:
    return str(uuid.uuid4())


def request(user_id: str, **changes: Any) -> GenerateRequest:
    """A valid request for a small, quick group, with the changes a test is about."""
    settings = {"request_id": new_id(), "prompt": PROMPT, "num_candidates": 2, "num_steps": 4, "seed": 11}
    return GenerateRequest(user_id=user_id, **(settings | changes))


def generate(clients: Clients, asked: GenerateRequest, timeout_s: float = CALL_TIMEOUT_S) -> Round:
    """Run the stream to its end and insist on its order: accepted, progress, group."""
    events = list(clients.generation.Generate(asked, timeout=timeout_s))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["accepted", *["progress"] * (len(events) - 2), "group"]
    accepted = events[0].accepted
    return Round(accepted.group_id, accepted.release, [e.progress for e in events[1:-1]], events[-1].group)


def new_user(clients: Clients, layout: Layout) -> str:
    """A user of this test alone, whose profile gives every feature of the schema a value."""
    user_id = f"merchant-{new_id()}"
    schema = read_release(release_dir(layout.model_repository, layout.release())).feature_schema
    features = {feature.name: _first_value(feature) for feature in schema.features}
    clients.users.PutUserProfile(PutUserProfileRequest(user_id=user_id, features=features), timeout=CALL_TIMEOUT_S)
    return user_id


def _first_value(feature: Feature) -> FeatureValue:
    if feature.kind == "numeric":
        return FeatureValue(number_value=feature.min)
    word = feature.vocabulary[0]
    if feature.kind == "multi":
        return FeatureValue(string_list_value=StringList(values=[word]))
    return FeatureValue(string_value=word)


def pick(clients: Clients, group: Group, **changes: Any) -> SubmitFeedbackRequest:
    """A valid pick of the group's best picture, with the changes a test is about."""
    fields = {"request_id": new_id(), "group_id": group.group_id, "user_id": group.user_id}
    return SubmitFeedbackRequest(
        **(fields | {"selected_image_ids": [group.candidates[0].image_id]} | changes)  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Kept:
    """What the platform remembers of a user."""

    groups: int
    generated_events: int
    feedback_events: int


NOTHING = Kept(0, 0, 0)


def kept(clients: Clients, layout: Layout, user_id: str) -> Kept:
    listed = clients.generation.ListGroups(ListGroupsRequest(user_id=user_id), timeout=CALL_TIMEOUT_S)
    return Kept(
        groups=len(listed.groups),
        generated_events=len(read_events(layout, topics.GROUPS, GroupGenerated, user_id)),
        feedback_events=len(read_events(layout, topics.FEEDBACK, FeedbackGiven, user_id)),
    )


def fields_blamed(error: grpc.RpcError) -> set[str]:
    """The field paths in the error's google.rpc.BadRequest."""
    return {v.field for detail in _details(error, error_details_pb2.BadRequest) for v in detail.field_violations}


def is_retryable(error: grpc.RpcError) -> bool:
    """Says when to try again (google.rpc.RetryInfo)."""
    return bool(_details(error, error_details_pb2.RetryInfo))


def _details(error: grpc.RpcError, kind: Any) -> list[Any]:
    status = rpc_status.from_call(error)
    found = []
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def wait_until(condition: Callable[[], bool], limit_s: float) -> float:
    """Seconds until the condition held; fails the test when it does not in time."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < limit_s, f"not within {limit_s} s"
        time.sleep(0.1)
    return time.monotonic() - begin
