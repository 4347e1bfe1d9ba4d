"""What a merchant is about to ask for: the form's content, from a group, from a round before, or as it was sent.

It knows the form and the API's request. The services check what a field may be; here is only what is no number at all.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.group_pb2 import Group
from perfusion.v1.release_pb2 import ReleaseInfo

from services.runtime.fields import Fields

PREVIEW_EVERY_N_STEPS = 4
_SEEDS = 2**31  # that we draw; the API takes more


@dataclass(frozen=True)
class Draft:
    """`like` is a picture to start from, "GROUP/IMAGE"; `seed` None is a new one."""

    prompt: str = ""
    negative_prompt: str = ""
    num_candidates: int = 5
    num_steps: int = 20
    personalise: bool = True
    variety: float | None = None
    seed: int | None = None
    refused_wishes: tuple[str, ...] = ()
    like: str = ""
    strength: float | None = None


def new_draft(release: ReleaseInfo) -> Draft:
    """An empty form."""
    defaults = release.defaults
    return Draft(num_candidates=defaults.num_candidates, num_steps=defaults.num_steps)


def of_group(group: Group) -> Draft:
    """The form that asks for another group like this one."""
    settings = group.settings
    return Draft(
        prompt=group.prompt,
        negative_prompt=group.negative_prompt,
        num_candidates=len(group.candidates),
        num_steps=settings.num_steps,
        personalise=settings.adapter_scale > 0,
        refused_wishes=tuple(settings.refused_wishes),
    )


def of_request(request: GenerateRequest) -> Draft:
    """The form as it was sent."""
    return Draft(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_candidates=request.num_candidates,
        num_steps=request.num_steps,
        personalise=not (request.HasField("adapter_scale") and request.adapter_scale == 0),
        variety=request.variety if request.HasField("variety") else None,
        seed=request.seed,
        refused_wishes=tuple(request.refused_wishes),
        strength=request.strength if request.HasField("strength") else None,
    )


def of_form(form: Mapping[str, Sequence[str]], start: Draft) -> Draft:
    """The form as it comes from a browser; a field that is not there is as in `start`.

    Raises:
        InvalidArgument: a number is none.
    """
    fields = Fields()

    def text(name: str, before: str) -> str:
        return form[name][-1] if form.get(name) else before

    def number(name: str, before: float | None) -> float | None:
        given = text(name, "").strip()
        if not given:
            return before
        try:
            return float(given)
        except ValueError:
            fields.refuse(name, "must be a number")
            return before

    def whole(name: str, before: int | None) -> int | None:
        given = text(name, "").strip()
        if not given:
            return before
        if not given.isdecimal() or len(given) > 19:
            fields.refuse(name, "must be a whole number")
            return before
        return int(given)

    draft = replace(
        start,
        prompt=text("prompt", start.prompt),
        negative_prompt=text("negative_prompt", start.negative_prompt),
        num_candidates=whole("num_candidates", start.num_candidates) or 0,
        num_steps=whole("num_steps", start.num_steps) or 0,
        personalise=text("personalise", "1" if start.personalise else "0") == "1",
        variety=number("variety", start.variety),
        seed=whole("seed", start.seed),
        refused_wishes=tuple(dict.fromkeys(form.get("refused_wishes", start.refused_wishes))),
        like=text("like", start.like),
        strength=number("strength", start.strength),
    )
    fields.done()
    return draft


def request_of(draft: Draft, request_id: str, user_id: str, reference: bytes) -> GenerateRequest:
    """The API's request. Its seed is always set, so that a round that is begun anew draws the same pictures.

    Raises:
        InvalidArgument: a number is too large for the message.
    """
    request = GenerateRequest(
        request_id=request_id,
        user_id=user_id,
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        reference_image=reference,
        preview_every_n_steps=PREVIEW_EVERY_N_STEPS,
        refused_wishes=draft.refused_wishes,
    )
    fields = Fields()
    for name, value in (
        ("num_candidates", draft.num_candidates),
        ("num_steps", draft.num_steps),
        ("seed", secrets.randbelow(_SEEDS) if draft.seed is None else draft.seed),
        ("variety", draft.variety),
        ("strength", draft.strength if reference else None),
        ("adapter_scale", None if draft.personalise else 0.0),
    ):
        try:
            if value is not None:
                setattr(request, name, value)
        except ValueError:
            fields.refuse(name, "is out of range")
    fields.done()
    return request


def parts_of(like: str) -> tuple[str, str]:
    """(group, picture) of a draft's `like`.

    Raises:
        InvalidArgument: it is not of that form.
    """
    group_id, _, image_id = like.partition("/")
    fields = Fields()
    group_id, image_id = fields.uuid(group_id, "like"), fields.uuid(image_id, "like")
    fields.done()
    return group_id, image_id
