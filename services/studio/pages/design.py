"""The form of a round: empty, from a group ("refine"), from a picture ("more like this"), or as it was sent."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from contract import limits
from services.runtime.errors import InvalidArgument, NotFound, ResourceExhausted
from services.runtime.fields import Fields
from services.studio import drafts
from services.studio.drafts import Draft
from services.studio.problems import by_field
from services.studio.visits import Acting, Form, Visit, to

router = APIRouter()


@router.get("/")
async def design(
    visit: Acting, group: str = "", like: str = "", refuse: str = "", round: UUID | None = None, prompt: str = ""
) -> Response:
    """`group` is refined, without the wish `refuse`; `like` is started from; `round` is asked for again."""
    if await visit.studio.platform.profile(visit.user_id) is None:
        return to("/profile?first=1")
    draft = await _begun(visit, group, like, refuse, round)
    if prompt:
        draft = replace(draft, prompt=prompt)
    return await form_page(visit, draft)


async def _begun(visit: Visit, group_id: str, like: str, refuse: str, request_id: UUID | None) -> Draft:
    if request_id:
        asked = (await visit.studio.following.look(visit.user_id, str(request_id))).asked
        return drafts.of_request(asked.request)
    if like:
        group_id, _ = drafts.parts_of(like)
    if not group_id:
        return drafts.new_draft(await visit.release())
    group = await visit.studio.platform.group(visit.user_id, group_id, with_pictures=False)
    draft = drafts.of_group(group)
    if like and all(like != f"{group_id}/{candidate.image_id}" for candidate in group.candidates):
        raise NotFound("there is no such picture")
    refused = (*draft.refused_wishes, refuse) if refuse else draft.refused_wishes
    return replace(draft, like=like, refused_wishes=refused)


async def form_page(visit: Visit, draft: Draft, error: InvalidArgument | None = None, status: int = 200) -> Response:
    """The design page; an error's fields are named where they stand."""
    running = await visit.studio.following.running(visit.user_id)
    return visit.show("design.html", status, running=running, **await form_content(visit, draft, error))


async def form_content(visit: Visit, draft: Draft, error: InvalidArgument | None = None) -> dict[str, Any]:
    """What the form's template needs."""
    words = await visit.words()
    return {
        "draft": draft,
        "request_id": str(uuid4()),
        "words": words,
        "limits": words.release.limits,
        "defaults": words.release.defaults,
        "unknown": words.unknown(draft.prompt),
        "problems": by_field(error, visit.language, lambda path: path.partition("[")[0]),
        "most_phrase_chars": limits.MAX_PHRASE_CHARS,
    }


@router.post("/rounds")
async def ask(sent: Form) -> Response:
    """Begins a round; the same form sent twice is one round."""
    visit = sent.visit
    draft = drafts.new_draft(await visit.release())
    try:
        draft = drafts.of_form(sent.texts(), draft)
        fields = Fields()
        request_id = fields.uuid(sent.text("request_id"), "request_id")
        most = (await visit.release()).limits
        fields.prompt(draft.prompt)
        fields.text(draft.negative_prompt, "negative_prompt", most.prompt_chars)
        for name, value, largest in (
            ("num_candidates", draft.num_candidates, most.candidates),
            ("num_steps", draft.num_steps, most.steps),
        ):
            fields.require(1 <= value <= largest, name, f"must be 1 to {largest}")
        fields.done()
        reference = await sent.file("reference_image")
        if draft.like and not reference:
            group_id, image_id = drafts.parts_of(draft.like)
            reference = await visit.studio.pictures.png(visit.user_id, group_id, image_id)
        request = drafts.request_of(draft, request_id, visit.user_id, reference)
    except InvalidArgument as error:
        return await form_page(visit, draft, error, 400)
    try:
        await visit.studio.following.begin(request)
    except ResourceExhausted:
        problem = visit.language.say("Several of your rounds are running: wait for one of them, or end it.")
        return await form_page(visit, draft, InvalidArgument(("prompt", problem)), 429)
    return to(f"/rounds/{request_id}")


@router.get("/suggestions")
async def suggest(visit: Acting, prompt: str = "", prefix: str = "") -> Response:
    """Phrases to add, and what of the prompt is not read or not known, for the form's script."""
    words = await visit.words()
    try:
        answer = await visit.studio.platform.suggestions(visit.user_id, prompt, prefix)
    except NotFound:  # no profile yet
        return JSONResponse({"suggestions": [], "unread": [], "unknown": words.unknown(prompt)})
    found = [
        {"phrase": each.phrase, "label": words.phrase(each.phrase), "kind": words.name(each.kind)}
        for each in answer.suggestions
    ]
    unread = [words.phrase(phrase) for phrase in answer.unread_phrases]
    return JSONResponse({"suggestions": found, "unread": unread, "unknown": words.unknown(prompt)})
