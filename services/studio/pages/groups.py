"""A group: its pictures, the pick, two beside each other, and all groups so far."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from fastapi.responses import Response
from perfusion.v1.feedback_service_pb2 import Feedback, SubmitFeedbackRequest
from perfusion.v1.group_pb2 import Group

from services.runtime.errors import InvalidArgument, NotFound, ServiceError
from services.studio import drafts
from services.studio.pages.design import form_content
from services.studio.visits import Acting, Form, Visit, to

router = APIRouter()
PNG = "image/png"


@router.get("/groups/{group_id}")
async def look(group_id: UUID, visit: Acting) -> Response:
    group = await visit.studio.platform.group(visit.user_id, str(group_id), with_pictures=False)
    return visit.show("group.html", **await _content(visit, group))


async def _content(visit: Visit, group: Group, problem: str = "") -> dict[str, Any]:
    studio, user_id = visit.studio, visit.user_id
    found = await asyncio.gather(_picked(visit, group.group_id), studio.keepsakes.of_group(user_id, group.group_id))
    (picked, has_picks), (starred, shared) = found
    return {
        "group": group,
        "picked": None if picked is None else set(picked.selected_image_ids),
        "has_picks": has_picks,
        "pick_id": str(uuid4()),
        "starred": starred,
        "shared": shared,
        "share_url": f"{studio.public_url}/shared/",
        "problem": problem,
        **await form_content(visit, drafts.of_group(group)),
    }


async def _picked(visit: Visit, group_id: str) -> tuple[Feedback | None, bool]:
    """The pick that counts, and whether that is known: the group can be looked at all the same."""
    try:
        return await visit.studio.platform.pick(visit.user_id, group_id), True
    except ServiceError:
        return None, False


@router.post("/groups/{group_id}/pick")
async def pick(group_id: UUID, sent: Form) -> Response:
    """The pictures that please, or none; a later pick counts instead of an earlier one."""
    visit = sent.visit
    chosen = [] if sent.text("none") else [*sent.texts().get("image_id", ())]
    request = SubmitFeedbackRequest(
        request_id=sent.text("request_id"), group_id=str(group_id), user_id=visit.user_id, selected_image_ids=chosen
    )
    if not chosen and not sent.text("none"):
        group = await visit.studio.platform.group(visit.user_id, str(group_id), with_pictures=False)
        problem = visit.language.say("Choose a picture first, or say that none pleases.")
        return visit.show("group.html", 400, **await _content(visit, group, problem))
    await visit.studio.platform.submit_pick(request)
    return to(f"/groups/{group_id}#picked")


@router.post("/groups/{group_id}/compare")
async def choose(group_id: UUID, sent: Form) -> Response:
    """Two pictures of the pick's form, as an address that has nothing else of it."""
    return to(
        f"/groups/{group_id}/compare?{urlencode([('image_id', each) for each in sent.texts().get('image_id', ())])}"
    )


@router.get("/groups/{group_id}/compare")
async def compare(
    group_id: UUID, visit: Acting, image_id: Annotated[list[str], Query(default_factory=list)]
) -> Response:
    """Two pictures beside each other."""
    group = await visit.studio.platform.group(visit.user_id, str(group_id), with_pictures=False)
    found = [candidate for candidate in group.candidates if candidate.image_id in image_id]
    if len(found) != 2:
        problem = visit.language.say("Choose two pictures to compare.")
        return visit.show("group.html", 400, **await _content(visit, group, problem))
    return visit.show(
        "compare.html", group=group, pair=found, pick_ids=[str(uuid4()), str(uuid4())], words=await visit.words()
    )


@router.get("/groups/{group_id}/{image_id}.png")
async def picture(group_id: UUID, image_id: UUID, visit: Acting, download: bool = False) -> Response:
    png = await visit.studio.pictures.png(visit.user_id, str(group_id), str(image_id))
    headers = {"content-disposition": f'attachment; filename="{image_id}.png"'} if download else {}
    return Response(png, media_type=PNG, headers=headers)


@router.get("/history")
async def history(visit: Acting, page: str = "") -> Response:
    try:
        found = await visit.studio.platform.groups(visit.user_id, page)
    except InvalidArgument as error:  # a token of another merchant's list, or of nobody's
        raise NotFound("there is no such page") from error
    running: Sequence[Any] = () if page else await visit.studio.following.running(visit.user_id)
    return visit.show(
        "history.html", groups=found.groups, next_page=found.next_page_token, running=running, words=await visit.words()
    )
