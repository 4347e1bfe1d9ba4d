"""From a request to the service's own terms, or to InvalidArgument naming every wrong field; the only check.

It knows the proto's limits. It does no I/O; what takes CPU time, a reference image's hash and pixels, runs in threads.
"""

import asyncio
import hashlib
import math
from dataclasses import dataclass, replace

from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1 import group_pb2

from contract import limits
from contract.release import Release
from contract.wishes import VARIETY
from services.generation.messages import SAMPLER_OF, groups_of
from services.generation.orders import Order, Settings
from services.generation.seeds import SEED_LIMIT, draw_seed
from services.runtime.errors import InvalidArgument
from services.runtime.fields import Fields
from services.runtime.images import Decoder, ImageRefused
from services.runtime.pages import Page, page_of


@dataclass(frozen=True)
class SuggestionQuery:
    """A valid SuggestPhrasesRequest."""

    user_id: str
    prompt: str
    prefix: str
    most: int


async def order_of(request: pb.GenerateRequest, release: Release, decoder: Decoder) -> Order:
    """The order that a request places with a release. All else is checked before the picture, which costs far more."""
    if not request.reference_image:
        return _order(request, release)
    order = await asyncio.to_thread(_order, request, release)
    try:
        reference = await decoder.decode(request.reference_image, release.sizes.image_size_px)
    except ImageRefused as refusal:
        raise InvalidArgument(("reference_image", str(refusal))) from refusal
    return replace(order, reference=reference)


def _order(request: pb.GenerateRequest, release: Release) -> Order:
    fields = Fields()
    request_id = fields.uuid(request.request_id, "request_id")
    user_id = fields.user_id(request.user_id)
    prompt = fields.prompt(request.prompt)
    negative_prompt = fields.text(request.negative_prompt, "negative_prompt", limits.MAX_PROMPT_CHARS)
    numbers = _Numbers(request, fields)
    num_candidates = numbers.integer("num_candidates", limits.DEFAULT_CANDIDATES, 1, limits.MAX_CANDIDATES)
    settings = _settings(request, release, numbers)
    preview, most = request.preview_every_n_steps, limits.MAX_STEPS
    fields.require(0 <= preview <= most, "preview_every_n_steps", f"must be 0 to {most}")
    fields.done()
    return Order(
        request_id=request_id,
        fingerprint=fingerprint_of(request),
        user_id=user_id,
        prompt=prompt,
        negative_prompt=negative_prompt,
        num_candidates=num_candidates,
        settings=settings,
        reference=None,
        preview_every_n_steps=preview,
        may_explore=not request.HasField("variety"),
    )


def fingerprint_of(request: pb.GenerateRequest) -> str:
    """Equal for two requests if and only if they differ at most in their request_id."""
    payload = pb.GenerateRequest()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return hashlib.sha256(payload.SerializeToString(deterministic=True)).hexdigest()


def group_query_of(request: pb.GetGroupRequest) -> tuple[str, bool]:
    """The group, and whether its pictures are wanted."""
    fields = Fields()
    group_id = fields.uuid(request.group_id, "group_id")
    fields.require(request.view in pb.GroupView.values(), "view", "must be one of the enum's values")
    fields.done()
    return group_id, request.view != pb.GROUP_VIEW_BASIC


def page_query_of(request: pb.ListGroupsRequest) -> tuple[str, Page]:
    """The user, and the page of their groups."""
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    page = page_of(fields, request.page_size, request.page_token, groups_of(user_id))
    fields.done()
    return user_id, page


def suggestion_query_of(request: pb.SuggestPhrasesRequest) -> SuggestionQuery:
    """The user and prompt that get suggestions."""
    fields, most = Fields(), limits.MAX_SUGGESTIONS
    query = SuggestionQuery(
        user_id=fields.user_id(request.user_id),
        prompt=fields.text(request.prompt, "prompt", limits.MAX_PROMPT_CHARS),
        prefix=fields.text(request.prefix, "prefix", limits.MAX_PREFIX_CHARS),
        most=request.max_suggestions or limits.DEFAULT_SUGGESTIONS,
    )
    fields.require(0 <= request.max_suggestions <= most, "max_suggestions", f"must be 0 to {most}")
    fields.done()
    return query


def release_of(request: pb.GetReleaseInfoRequest) -> int:
    """The release's number, 0 meaning the one in service."""
    fields = Fields()
    number = fields.release(request.release)
    fields.done()
    return number


@dataclass(frozen=True)
class _Numbers:
    """One request's numbers, each checked against its range."""

    request: pb.GenerateRequest
    fields: Fields

    def integer(self, field: str, default: int, low: int, high: int) -> int:
        value = int(getattr(self.request, field)) if self.request.HasField(field) else default  # type: ignore[arg-type]
        self.fields.require(low <= value <= high, field, f"must be {low} to {high}")
        return value

    def real(self, field: str, default: float, high: float) -> float:
        value = float(getattr(self.request, field)) if self.request.HasField(field) else default  # type: ignore[arg-type]
        self.fields.require(math.isfinite(value) and 0 <= value <= high, field, f"must be a number from 0 to {high:g}")
        return value


def _settings(request: pb.GenerateRequest, release: Release, numbers: _Numbers) -> Settings:
    defaults, fields = release.manifest.defaults, numbers.fields
    return Settings(
        num_steps=numbers.integer("num_steps", defaults.num_steps, 1, limits.MAX_STEPS),
        guidance_scale=numbers.real("guidance_scale", defaults.guidance_scale, limits.MAX_GUIDANCE_SCALE),
        adapter_scale=numbers.real("adapter_scale", defaults.adapter_scale, limits.MAX_ADAPTER_SCALE),
        sampler=_sampler(request, defaults.sampler, fields),
        # Not "or": 0 is a seed like any other.
        seed=numbers.integer("seed", 0, 0, SEED_LIMIT - 1) if request.HasField("seed") else draw_seed(),
        strength=_strength(request, fields),
        reference_image_sha256=hashlib.sha256(request.reference_image).hexdigest() if request.reference_image else "",
        refused_wishes=_refused_wishes(request, fields),
        variety=numbers.real("variety", VARIETY, limits.MAX_VARIETY),
    )


def _sampler(request: pb.GenerateRequest, default: str, fields: Fields) -> str:
    if request.scheduler == group_pb2.SCHEDULER_UNSPECIFIED:
        return default
    fields.require(request.scheduler in SAMPLER_OF, "scheduler", "must be one of the enum's values")
    return SAMPLER_OF.get(request.scheduler, "")


def _strength(request: pb.GenerateRequest, fields: Fields) -> float | None:
    if not request.reference_image:
        fields.require(not request.HasField("strength"), "strength", "must not be set without a reference_image")
        return None
    if not request.HasField("strength"):
        return limits.DEFAULT_STRENGTH
    fields.require(0 < request.strength <= 1, "strength", "must be above 0 and at most 1")  # NaN fails as well
    return request.strength


def _refused_wishes(request: pb.GenerateRequest, fields: Fields) -> tuple[str, ...]:
    given, most = request.refused_wishes, limits.MAX_REFUSED_WISHES
    fields.require(len(given) <= most, "refused_wishes", f"must be at most {most}")
    for i, phrase in enumerate(given[:most]):
        fields.text(phrase, f"refused_wishes[{i}]", limits.MAX_PHRASE_CHARS, least=1)
    return tuple(given)
