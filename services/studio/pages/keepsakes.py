"""What a merchant keeps and gives away: starred pictures, and links that show one picture to whoever has them."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from services.runtime.errors import NotFound
from services.runtime.fields import Fields
from services.studio.ports import Kept
from services.studio.visits import Acting, Anybody, Form, Sent, own_path, path_of, to

router = APIRouter()
Link = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]


@router.get("/kept")
async def kept(visit: Acting, stars: str = "", shares: str = "") -> Response:
    """Page by page, stars and links each by their own."""
    keepsakes = visit.studio.keepsakes
    return visit.show(
        "kept.html",
        stars=await keepsakes.starred(visit.user_id, stars),
        shares=await keepsakes.shared(visit.user_id, shares),
        back=path_of(visit.request),
        share_url=f"{visit.studio.public_url}/shared/",
    )


@router.post("/stars")
async def star(sent: Form) -> Response:
    is_starred = sent.text("starred") == "1"
    kept = await _named(sent, exists=is_starred)
    await sent.visit.studio.keepsakes.star(kept, starred=is_starred)
    return to(own_path(sent.text("back"), f"/groups/{kept.group_id}"))


@router.post("/shares")
async def share(sent: Form) -> Response:
    is_shared = sent.text("shared") == "1"
    kept = await _named(sent, exists=is_shared)
    if is_shared:
        await sent.visit.studio.keepsakes.share(kept)
    else:
        await sent.visit.studio.keepsakes.revoke(kept.user_id, kept.image_id)
    return to(own_path(sent.text("back"), f"/groups/{kept.group_id}"))


@router.get("/shared/{token}")
async def shared(token: Link, visit: Anybody) -> Response:
    """For whoever has the link; no word of the merchant, and no way from here to anything else of theirs."""
    if await visit.studio.keepsakes.by_token(token) is None:
        raise NotFound("this link shows nothing: it was taken back, or never was")
    return visit.show("shared.html", token=token)


@router.get("/shared/{token}/picture.png")
async def shared_picture(token: Link, visit: Anybody) -> Response:
    kept = await visit.studio.keepsakes.by_token(token)
    if kept is None:
        raise NotFound("this link shows nothing: it was taken back, or never was")
    png = await visit.studio.pictures.png(kept.user_id, kept.group_id, kept.image_id)
    return Response(png, media_type="image/png")


async def _named(sent: Sent, *, exists: bool) -> Kept:
    """The picture that a form names, of the merchant's; what is given must exist, what is taken back need not."""
    visit, fields = sent.visit, Fields()
    group_id = fields.uuid(sent.text("group_id"), "group_id")
    kept = Kept(visit.user_id, group_id, fields.uuid(sent.text("image_id"), "image_id"))
    fields.done()
    if not exists:
        return kept
    group = await visit.studio.platform.group(visit.user_id, kept.group_id, with_pictures=False)
    if all(candidate.image_id != kept.image_id for candidate in group.candidates):
        raise NotFound("there is no such picture")
    return kept
