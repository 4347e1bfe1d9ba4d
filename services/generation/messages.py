"""The service's own vocabulary to protobuf messages and back. It decides nothing."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import events_pb2, group_pb2, user_pb2
from perfusion.v1 import generation_service_pb2 as pb

from services.generation.orders import Accepted, Group, Progress, Settings
from services.generation.validation import SCHEDULER_NAMES

_SCHEDULERS = {name: group_pb2.Scheduler.ValueType(number) for number, name in SCHEDULER_NAMES.items()}


def response_of(event: Accepted | Progress | Group) -> pb.GenerateResponse:
    """One message of Generate's stream."""
    match event:
        case Accepted(group_id, release):
            return pb.GenerateResponse(accepted=pb.GenerateAccepted(group_id=group_id, release=release))
        case Progress(step, num_steps, previews):
            progress = pb.GenerateProgress(step=step, num_steps=num_steps, previews=previews)
            return pb.GenerateResponse(progress=progress)
        case Group():
            return pb.GenerateResponse(group=group_message(event))


def group_message(group: Group) -> group_pb2.Group:
    """A group, with the pictures' bytes if it has them."""
    return group_pb2.Group(
        group_id=group.group_id,
        user_id=group.user_id,
        prompt=group.prompt,
        release=group.release,
        create_time=_timestamp(group.create_time_us),
        candidates=_candidates(group, with_pictures=True),
        request_id=group.request_id,
        negative_prompt=group.negative_prompt,
        settings=_settings(group.settings),
    )


def event_message(group: Group, features: Mapping[str, user_pb2.FeatureValue]) -> events_pb2.GroupGenerated:
    """What Kafka is told of a group: all of it but the pictures' bytes, and who the user was when it was made."""
    return events_pb2.GroupGenerated(
        group_id=group.group_id,
        request_id=group.request_id,
        user_id=group.user_id,
        prompt=group.prompt,
        negative_prompt=group.negative_prompt,
        release=group.release,
        create_time=_timestamp(group.create_time_us),
        settings=_settings(group.settings),
        candidates=_candidates(group, with_pictures=False),
        user_features=features,
    )


def _candidates(group: Group, *, with_pictures: bool) -> list[group_pb2.Candidate]:
    return [
        group_pb2.Candidate(
            image_id=candidate.image_id,
            png=candidate.png if with_pictures else b"",
            uri=candidate.uri,
            seed=candidate.seed,
            score=candidate.score,
            rank=candidate.rank,
        )
        for candidate in group.candidates
    ]


def _settings(settings: Settings) -> group_pb2.GenerationSettings:
    return group_pb2.GenerationSettings(
        num_steps=settings.num_steps,
        guidance_scale=settings.guidance_scale,
        adapter_scale=settings.adapter_scale,
        scheduler=_SCHEDULERS[settings.scheduler],
        seed=settings.seed,
        strength=settings.strength,
        reference_image_sha256=settings.reference_image_sha256,
    )


def _timestamp(microseconds: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(microseconds)
    return timestamp
