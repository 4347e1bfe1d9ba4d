"""From a GenerateRequest to an Order, or to InvalidArgument naming every wrong field. Nobody checks again after it.

It knows the limits that the proto promises. It does no I/O; decoding a large reference image takes CPU time, so callers
run it in a thread.
"""

import hashlib
import math
from dataclasses import dataclass

from numpy import uint8
from numpy.typing import NDArray
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1 import group_pb2

from services.generation.orders import Order, Settings
from services.generation.seeds import SEED_LIMIT, draw_seed
from services.runtime.fields import MAX_PROMPT_CHARS, Fields
from services.runtime.images import ImageLimits, ImageRefused, decode_image
from services.runtime.release import Release

MAX_CANDIDATES = 16
MAX_STEPS = 100
MAX_GUIDANCE = 30.0
MAX_ADAPTER_SCALE = 2.0
MAX_PAGE_SIZE = 100
MAX_PREFIX_CHARS = 100
MAX_SUGGESTIONS = 50
DEFAULT_CANDIDATES = 5
DEFAULT_PAGE_SIZE = 20
DEFAULT_SUGGESTIONS = 10
DEFAULT_STRENGTH = 0.6

SCHEDULER_NAMES: dict[int, str] = {
    group_pb2.SCHEDULER_DDIM: "ddim",
    group_pb2.SCHEDULER_DPMSOLVER_PLUS_PLUS_2M: "dpmsolver++2m",
    group_pb2.SCHEDULER_EULER: "euler",
}


@dataclass(frozen=True)
class _Checker:
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


def order_of(request: pb.GenerateRequest, release: Release, limits: ImageLimits) -> Order:
    """The order that a request places with a release."""
    fields = Fields()
    request_id = fields.uuid(request.request_id, "request_id")
    user_id = fields.user_id(request.user_id)
    prompt = fields.prompt(request.prompt)
    _check_negative_prompt(request.negative_prompt, fields)
    checker = _Checker(request, fields)
    num_candidates = checker.integer("num_candidates", DEFAULT_CANDIDATES, 1, MAX_CANDIDATES)
    settings = _settings(request, release, checker)
    preview = request.preview_every_n_steps
    fields.require(0 <= preview <= MAX_STEPS, "preview_every_n_steps", f"must be 0 to {MAX_STEPS}")
    fields.done()  # before the picture, whose decoding costs far more than all else
    return Order(
        request_id=request_id,
        fingerprint=fingerprint_of(request),
        user_id=user_id,
        prompt=prompt,
        negative_prompt=request.negative_prompt,
        num_candidates=num_candidates,
        settings=settings,
        reference=_reference(request.reference_image, release.image_size_px, limits),
        preview_every_n_steps=preview,
    )


def fingerprint_of(request: pb.GenerateRequest) -> str:
    """Equal for two requests just when they differ in nothing but their request_id."""
    payload = pb.GenerateRequest()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return hashlib.sha256(payload.SerializeToString(deterministic=True)).hexdigest()


def page_of(request: pb.ListGroupsRequest) -> tuple[str, int]:
    """The user and the page size of a valid ListGroupsRequest; the token is the store's to check."""
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    fields.require(0 <= request.page_size <= MAX_PAGE_SIZE, "page_size", f"must be 0 to {MAX_PAGE_SIZE}")
    fields.done()
    return user_id, request.page_size or DEFAULT_PAGE_SIZE


def suggestion_query_of(request: pb.SuggestPhrasesRequest) -> tuple[str, int]:
    """The user and the number of suggestions of a valid SuggestPhrasesRequest."""
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    for field, value, most in (
        ("prompt", request.prompt, MAX_PROMPT_CHARS),
        ("prefix", request.prefix, MAX_PREFIX_CHARS),
    ):
        fields.require(len(value) <= most, field, f"must have at most {most} characters")
    most = MAX_SUGGESTIONS
    fields.require(0 <= request.max_suggestions <= most, "max_suggestions", f"must be 0 to {most}")
    fields.done()
    return user_id, request.max_suggestions or DEFAULT_SUGGESTIONS


def _check_negative_prompt(value: str, fields: Fields) -> None:
    problem = f"must have at most {MAX_PROMPT_CHARS} characters and no NUL"
    fields.require(len(value) <= MAX_PROMPT_CHARS and "\0" not in value, "negative_prompt", problem)


def _settings(request: pb.GenerateRequest, release: Release, checker: _Checker) -> Settings:
    defaults = release.defaults
    return Settings(
        num_steps=checker.integer("num_steps", defaults.num_steps, 1, MAX_STEPS),
        guidance_scale=checker.real("guidance_scale", defaults.guidance_scale, MAX_GUIDANCE),
        adapter_scale=checker.real("adapter_scale", defaults.adapter_scale, MAX_ADAPTER_SCALE),
        scheduler=_scheduler(request, release, checker.fields),
        # Not "or": 0 is a seed like any other.
        seed=checker.integer("seed", 0, 0, SEED_LIMIT - 1) if request.HasField("seed") else draw_seed(),
        strength=_strength(request, checker.fields),
        reference_image_sha256=hashlib.sha256(request.reference_image).hexdigest() if request.reference_image else "",
    )


def _scheduler(request: pb.GenerateRequest, release: Release, fields: Fields) -> str:
    if request.scheduler == group_pb2.SCHEDULER_UNSPECIFIED:
        return release.defaults.scheduler
    fields.require(request.scheduler in SCHEDULER_NAMES, "scheduler", "must be one of the enum's values")
    return SCHEDULER_NAMES.get(request.scheduler, "")


def _strength(request: pb.GenerateRequest, fields: Fields) -> float | None:
    if not request.reference_image:
        fields.require(not request.HasField("strength"), "strength", "must not be set without a reference_image")
        return None
    if not request.HasField("strength"):
        return DEFAULT_STRENGTH
    fields.require(0 < request.strength <= 1, "strength", "must be above 0 and at most 1")  # NaN fails as well
    return request.strength


def _reference(data: bytes, size_px: int, limits: ImageLimits) -> NDArray[uint8] | None:
    if not data:
        return None
    try:
        return decode_image(data, size_px, limits)
    except ImageRefused as refusal:
        fields = Fields()
        fields.refuse("reference_image", str(refusal))
        fields.done()
        raise  # not reached: done() raises
