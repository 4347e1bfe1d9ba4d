"""Plays rounds over gRPC as a merchant's client: profile, groups of five, picks, and their events.

Knows the public API only; deploy.demo.judge judges the pictures.
"""

import io
import time
import uuid
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest
from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from perfusion.v1.user_pb2 import FeatureValue, StringList
from PIL import Image

from contract import topics, tracing
from deploy.local.clients import Clients, read_events
from deploy.local.layout import Layout
from lab.market.merchants import Merchant

GROUP_SIZE = 5
CALL_TIMEOUT_S = 120.0
Pictures = npt.NDArray[np.uint8]  # (N, H, W, 3)


@dataclass(frozen=True, eq=False)
class Played:
    """One finished round, in the order of its seeds, so that groups of equal seeds compare picture by picture."""

    group: Group
    pictures: Pictures  # (K, H, W, 3)
    scores: list[float]
    wishes: list[list[str]]
    latency_s: float
    loop_s: float  # from the end of the first step to the end of the last
    steps: int  # how many steps loop_s covers


def put_profile(clients: Clients, merchant: Merchant) -> None:
    features = {name: _feature(value) for name, value in merchant.features.items()}
    clients.users.PutUserProfile(
        PutUserProfileRequest(user_id=merchant.user_id, features=features),
        timeout=CALL_TIMEOUT_S,
        metadata=tracing.metadata(),
    )


def play(clients: Clients, merchant: Merchant, prompt: str, seed: int, adapter_scale: float | None = None) -> Played:
    """One group by the release's defaults; an `adapter_scale` of 0 is no personalisation."""
    asked = GenerateRequest(
        request_id=str(uuid.uuid4()),
        user_id=merchant.user_id,
        prompt=prompt,
        num_candidates=GROUP_SIZE,
        seed=seed,
        adapter_scale=adapter_scale,
    )
    begin = time.perf_counter()
    step_ends = []
    for event in clients.generation.Generate(asked, timeout=CALL_TIMEOUT_S, metadata=tracing.metadata()):
        if event.WhichOneof("event") == "progress":
            step_ends.append(time.perf_counter())
    latency_s = time.perf_counter() - begin
    candidates = sorted(event.group.candidates, key=lambda candidate: candidate.seed)
    return Played(
        group=event.group,
        pictures=np.stack([_picture(c.png) for c in candidates]),
        scores=[c.score for c in candidates],
        wishes=[list(c.wishes) for c in candidates],
        latency_s=latency_s,
        loop_s=step_ends[-1] - step_ends[0],
        steps=len(step_ends) - 1,
    )


def submit_pick(clients: Clients, played: Played, picked: int) -> str:
    """Pick the picture at this place in seed order; returns the event's id."""
    candidates = sorted(played.group.candidates, key=lambda candidate: candidate.seed)
    request = SubmitFeedbackRequest(
        request_id=str(uuid.uuid4()),
        group_id=played.group.group_id,
        user_id=played.group.user_id,
        selected_image_ids=[candidates[picked].image_id],
    )
    answer = clients.feedback.SubmitFeedback(request, timeout=CALL_TIMEOUT_S, metadata=tracing.metadata())
    return str(answer.event_id)


def count_read_back(layout: Layout, user_id: str, event_ids: set[str]) -> int:
    """How many of these picks the Kafka topic holds."""
    records = read_events(layout, topics.FEEDBACK, FeedbackGiven, user_id)
    return len(event_ids & {record.headers["event-id"] for record in records})


def _feature(value: str | list[str] | float) -> FeatureValue:
    if isinstance(value, str):
        return FeatureValue(string_value=value)
    if isinstance(value, list):
        return FeatureValue(string_list_value=StringList(values=value))
    return FeatureValue(number_value=value)


def _picture(png: bytes) -> Pictures:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.uint8)
