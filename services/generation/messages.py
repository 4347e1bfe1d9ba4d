"""From the service's own terms to messages, the API's and Kafka's. It decides nothing."""

import math
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import events_pb2, group_pb2, release_pb2, user_pb2
from perfusion.v1 import generation_service_pb2 as pb

from contract import limits, rollout
from contract.feature_schema import Feature, Kind
from contract.history import HistoryVersion
from contract.labels import Labels
from contract.release import Defaults, Release
from contract.vocabulary import PhraseKind
from contract.wishes import VARIETY
from services.generation.orders import Accepted, Group, Progress, Queued, Settings, Unread
from services.generation.phrases import Suggestion
from services.generation.pictures import Loss
from services.runtime.clock import timestamp
from services.runtime.images import ImageLimits
from services.runtime.pages import token_of

# The API's enum Scheduler names samplers.
SCHEDULER_OF: Mapping[str, group_pb2.Scheduler.ValueType] = {
    "ddim": group_pb2.SCHEDULER_DDIM,
    "dpmsolver++2m": group_pb2.SCHEDULER_DPMSOLVER_PLUS_PLUS_2M,
    "euler": group_pb2.SCHEDULER_EULER,
}
SAMPLER_OF = {number: name for name, number in SCHEDULER_OF.items()}
_LOSSES: Mapping[Loss | None, group_pb2.PictureLoss.ValueType] = {
    None: group_pb2.PICTURE_LOSS_UNSPECIFIED,
    Loss.MISSING: group_pb2.PICTURE_LOSS_MISSING,
    Loss.DAMAGED: group_pb2.PICTURE_LOSS_DAMAGED,
}
_ARMS: Mapping[str | None, group_pb2.Arm.ValueType] = {
    None: group_pb2.ARM_UNSPECIFIED,
    rollout.LIVE: group_pb2.ARM_LIVE,
    rollout.MIXED: group_pb2.ARM_MIXED,
    rollout.EXPLORATION: group_pb2.ARM_EXPLORATION,
    rollout.HOLDBACK: group_pb2.ARM_HOLDBACK,
}
_FEATURE_KINDS: Mapping[Kind, release_pb2.FeatureKind.ValueType] = {
    "categorical": release_pb2.FEATURE_KIND_CATEGORICAL,
    "multi": release_pb2.FEATURE_KIND_MULTI,
    "numeric": release_pb2.FEATURE_KIND_NUMERIC,
}


def response_of(event: Accepted | Queued | Progress | Group, unread: Unread) -> pb.GenerateResponse:
    """One message of Generate's stream."""
    match event:
        case Accepted(group_id, release):
            accepted = pb.GenerateAccepted(
                group_id=group_id,
                release=release,
                unread_phrases=unread.prompt,
                unread_negative_phrases=unread.negative_prompt,
            )
            return pb.GenerateResponse(accepted=accepted)
        case Queued(position, expected_wait_s):
            wait = Duration()
            wait.FromNanoseconds(round(expected_wait_s * 1e9))
            return pb.GenerateResponse(queued=pb.GenerateQueued(position=position, expected_wait=wait))
        case Progress(step, num_steps, previews):
            progress = pb.GenerateProgress(step=step, num_steps=num_steps, previews=previews)
            return pb.GenerateResponse(progress=progress)
        case Group():
            return pb.GenerateResponse(group=group_message(event, unread))


def group_message(group: Group, unread: Unread) -> group_pb2.Group:
    """A group, with the pictures' bytes if it has them."""
    return group_pb2.Group(
        group_id=group.group_id,
        user_id=group.user_id,
        prompt=group.prompt,
        release=group.release,
        create_time=timestamp(group.create_time_us),
        candidates=_candidates(group, with_pictures=True),
        request_id=group.request_id,
        negative_prompt=group.negative_prompt,
        settings=_settings(group.settings),
        unread_phrases=unread.prompt,
        unread_negative_phrases=unread.negative_prompt,
        assignment=_assignment(group),
    )


def groups_of(user_id: str) -> tuple[str, str]:
    """The name of a user's list of groups, for its page tokens."""
    return ("groups", user_id)


def page_message(
    user_id: str, groups: Sequence[Group], unread: Sequence[Unread], last: int | None
) -> pb.ListGroupsResponse:
    """A page of a user's groups; `last` is the number of its last group if there are more."""
    token = token_of(groups_of(user_id), last)
    return pb.ListGroupsResponse(groups=map(group_message, groups, unread), next_page_token=token)


def suggestions_message(
    suggestions: Iterable[Suggestion], release: int, unread_phrases: Iterable[str]
) -> pb.SuggestPhrasesResponse:
    """Phrases to add, best first."""
    found = [pb.PhraseSuggestion(phrase=s.phrase.text, kind=s.phrase.kind, score=s.score) for s in suggestions]
    return pb.SuggestPhrasesResponse(suggestions=found, release=release, unread_phrases=unread_phrases)


def event_message(
    group: Group, canonical_prompt: str, features: Mapping[str, user_pb2.FeatureValue], history: HistoryVersion
) -> events_pb2.GroupGenerated:
    """The Kafka event of a group: all but the pictures' bytes, and what models read and knew of the user."""
    return events_pb2.GroupGenerated(
        group_id=group.group_id,
        request_id=group.request_id,
        user_id=group.user_id,
        prompt=group.prompt,
        negative_prompt=group.negative_prompt,
        release=group.release,
        create_time=timestamp(group.create_time_us),
        settings=_settings(group.settings),
        candidates=_candidates(group, with_pictures=False),
        user_features=features,
        assignment=_assignment(group),
        history=user_pb2.HistoryVersion(sequence=history.sequence, groups=history.groups),
        canonical_prompt=canonical_prompt,
    )


def release_message(release: Release, image_limits: ImageLimits) -> release_pb2.ReleaseInfo:
    """A release's properties for clients."""
    create_time = Timestamp()
    create_time.FromJsonString(release.manifest.create_time)
    return release_pb2.ReleaseInfo(
        release=release.number,
        create_time=create_time,
        features=map(_feature, release.feature_schema.features),
        phrase_kinds=map(_phrase_kind, release.vocabulary.kinds),
        image_size_px=release.sizes.image_size_px,
        schedulers=[SCHEDULER_OF[name] for name in limits.SAMPLERS],
        defaults=_defaults(release.manifest.defaults),
        limits=_limits(image_limits),
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
            wishes=candidate.wishes,
            picture_loss=_LOSSES[candidate.loss],
            release=candidate.release or 0,
        )
        for candidate in group.candidates
    ]


def _settings(settings: Settings) -> group_pb2.GenerationSettings:
    return group_pb2.GenerationSettings(
        num_steps=settings.num_steps,
        guidance_scale=settings.guidance_scale,
        adapter_scale=settings.adapter_scale,
        scheduler=SCHEDULER_OF[settings.sampler],
        seed=settings.seed,
        strength=settings.strength,
        reference_image_sha256=settings.reference_image_sha256,
        refused_wishes=settings.refused_wishes,
        variety=settings.variety or 0,
    )


def _assignment(group: Group) -> group_pb2.Assignment:
    return group_pb2.Assignment(
        arm=_ARMS[group.arm], propensity=group.propensity or 0, trial_release=group.trial_release or 0
    )


def _feature(feature: Feature) -> release_pb2.ProfileFeature:
    return release_pb2.ProfileFeature(
        name=feature.name,
        kind=_FEATURE_KINDS[feature.kind],
        vocabulary=feature.vocabulary,
        max_values=feature.max_values if feature.kind == "multi" else 0,
        min=feature.min if math.isfinite(feature.min) else None,
        max=feature.max if math.isfinite(feature.max) else None,
        labels=map(_labels, feature.labels),
    )


def _phrase_kind(kind: PhraseKind) -> release_pb2.PhraseKind:
    only_with = [release_pb2.PhraseList(phrases=needed) for needed in kind.only_with]
    return release_pb2.PhraseKind(
        kind=kind.name, phrases=kind.phrases, only_with=only_with, labels=map(_labels, kind.labels)
    )


def _labels(labels: Labels) -> release_pb2.Labels:
    return release_pb2.Labels(language=labels.language, name=labels.name, words=labels.words)


def _defaults(defaults: Defaults) -> release_pb2.GenerationDefaults:
    return release_pb2.GenerationDefaults(
        num_candidates=limits.DEFAULT_CANDIDATES,
        num_steps=defaults.num_steps,
        guidance_scale=defaults.guidance_scale,
        adapter_scale=defaults.adapter_scale,
        scheduler=SCHEDULER_OF[defaults.sampler],
        strength=limits.DEFAULT_STRENGTH,
        variety=VARIETY,
    )


def _limits(image_limits: ImageLimits) -> release_pb2.RequestLimits:
    return release_pb2.RequestLimits(
        user_id_chars=limits.MAX_USER_ID_CHARS,
        prompt_chars=limits.MAX_PROMPT_CHARS,
        candidates=limits.MAX_CANDIDATES,
        steps=limits.MAX_STEPS,
        guidance_scale=limits.MAX_GUIDANCE_SCALE,
        adapter_scale=limits.MAX_ADAPTER_SCALE,
        refused_wishes=limits.MAX_REFUSED_WISHES,
        reference_image_bytes=image_limits.max_bytes,
        reference_image_pixels=image_limits.max_pixels,
        page_size=limits.MAX_PAGE_SIZE,
        suggestions=limits.MAX_SUGGESTIONS,
        variety=limits.MAX_VARIETY,
    )
