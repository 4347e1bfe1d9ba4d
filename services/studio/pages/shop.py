"""The shop, for whoever comes: a merchant's items on sale, one of them, and the form that orders it."""

import re
import time
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Path
from fastapi.responses import Response
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.runtime.fields import Fields
from services.studio import listings, telling
from services.studio.buying import Browsing, Buying, BuyingForm
from services.studio.ports import Placed
from services.studio.problems import by_field
from services.studio.seeing import Sight
from services.studio.visits import Anybody, to

router = APIRouter()
SHOP, ITEM, LINK = "shop", "item", "link"  # surfaces: a merchant's items, an item's own page, a link from elsewhere
MOST_POSITION = 1_000_000
RECIPIENT = ("name", "address", "email")  # the form's fields of whom an order is sent to
_SURFACE = re.compile(r"[a-z0-9_-]{1,40}")
ShopId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]


@router.get("/shop/{shop_id}")
async def look(shop_id: ShopId, browsing: Buying, page: str = "", first: int = 1) -> Response:
    """What a merchant has on sale; `first` is the place of the page's first item."""
    studio = browsing.visit.studio
    shop = await studio.shops.by_id(shop_id)
    if shop is None:
        raise NotFound("there is no such shop")
    try:
        found = await studio.items.presales(shop.user_id, page, *telling.ON_SALE)
    except InvalidArgument as error:
        raise NotFound("there is no such page") from error
    first = min(max(1, first), MOST_POSITION // 2)
    for place, presale in enumerate(found.presales, first):
        _see(browsing, presale, SHOP, place)
    return browsing.show(
        "shop.html",
        shop=shop,
        presales=found.presales,
        first=first,
        next_page=found.next_page_token,
        now=time.time(),
        tell=telling,
    )


@router.get("/shop/items/{presale_id}")
async def item(presale_id: UUID, browsing: Buying, at: str = LINK, place: str = "") -> Response:
    """An item; `at` and `place` are where it was met."""
    presale = await browsing.visit.studio.items.shown(str(presale_id))
    surface, position = _met(at, place)
    if presale.state in telling.ON_SALE and not _is_ahead(browsing):
        browsing.visit.studio.sightings.opened(presale, Sight(browsing.buyer.viewer_hash, surface, position))
    _see(browsing, presale, ITEM, 0)
    return await _item(browsing, presale, at=surface, place=position)


@router.get("/shop/items/{presale_id}/live")
async def live(presale_id: UUID, browsing: Buying) -> Response:
    """The part of an item's page that changes by itself."""
    presale = await browsing.visit.studio.items.shown(str(presale_id))
    return browsing.visit.show("sale.html", session=None, **_shown(presale))


@router.get("/shop/items/{presale_id}/picture.png")
async def picture(presale_id: UUID, visit: Anybody) -> Response:
    """The item's picture, as long as it is sold or made: whoever cancels the sale takes the picture back."""
    presale = await visit.studio.items.shown(str(presale_id))
    if presale.state not in telling.RUNNING:
        raise NotFound("this picture is not shown any more")
    terms = presale.terms
    png = await visit.studio.pictures.png(presale.user_id, terms.group_id, terms.image_id)
    return Response(png, media_type="image/png")


@router.post("/shop/items/{presale_id}/orders")
async def order(presale_id: UUID, form: BuyingForm) -> Response:
    """Orders; the same form sent twice is one order, and pays once."""
    browsing, sent = form.browsing, form.sent
    studio, buyer = browsing.visit.studio, browsing.buyer
    presale = await studio.items.shown(str(presale_id))
    surface, position = _met(sent.text("at"), sent.text("place"))
    typed = {"units": sent.text("units").strip(), "payment_method": sent.text("payment_method")}
    typed |= {name: sent.text(name).replace("\r\n", "\n").strip() for name in RECIPIENT}
    kept: dict[str, Any] = {"at": surface, "place": position, "typed": typed, "request_id": sent.text("request_id")}
    try:
        fields = Fields()
        units = listings.whole(fields, typed["units"], "units")
        offered = typed["payment_method"] in studio.payment_methods
        fields.require(offered, "payment_method", browsing.visit.language.say("Choose how you pay."))
        fields.done()
        placed = await studio.items.place(
            presale.user_id,
            api.PlaceOrderRequest(
                request_id=sent.text("request_id"),
                presale_id=presale.presale_id,
                buyer_id=buyer.buyer_id,
                units=units,
                payment_method=typed["payment_method"],
                encounter=api.Encounter(surface=surface, position=position, viewer_hash=buyer.viewer_hash),
                ship_to=pb.Recipient(**{name: typed[name] for name in RECIPIENT}),
            ),
        )
    except InvalidArgument as error:
        found = by_field(error, browsing.visit.language, lambda path: path.removeprefix("ship_to."))
        return await _item(browsing, presale, problems=found, status=400, **kept)
    except FailedPrecondition as error:
        now = await studio.items.shown(str(presale_id))
        return await _item(browsing, now, problems=_refusal(browsing, error), status=409, **kept)
    await studio.shops.note(Placed(placed.order_id, buyer.buyer_id, presale.user_id, presale.presale_id))
    return to(f"/orders/{placed.order_id}")


def _refusal(browsing: Browsing, error: FailedPrecondition) -> dict[str, list[str]]:
    """Why the sale does not take an order, by the form's field."""
    say = browsing.visit.language.say
    own = error.metadata.get("buyer_units_left")
    if own is not None:
        more = say("You may order {count} more of it.", count=own)
        return {"units": [more if own != "0" else say("You have ordered as many as one buyer may.")]}
    left = error.metadata.get("units_left")
    if left is None:
        return {"": [say("The sale takes no orders any more.")]}
    return {"units": [say("Only {count} are left.", count=left) if left != "0" else say("All are ordered.")]}


def _met(at: str, place: str) -> tuple[str, int]:
    """Where the item was met, as far as a browser says something that can be meant."""
    is_place = place.isascii() and place.isdecimal() and len(place) < 8
    return at if _SURFACE.fullmatch(at) else LINK, min(int(place), MOST_POSITION) if is_place else 0


def _see(browsing: Browsing, presale: pb.Presale, surface: str, place: int) -> None:
    if presale.state in telling.ON_SALE and not _is_ahead(browsing):
        browsing.visit.studio.sightings.shown(presale, Sight(browsing.buyer.viewer_hash, surface, place))


def _is_ahead(browsing: Browsing) -> bool:
    """Whether the browser only fetches the page, in case somebody wants to see it."""
    return "prefetch" in browsing.visit.request.headers.get("sec-purpose", "")


def _shown(presale: pb.Presale) -> dict[str, Any]:
    """What an item's live part needs."""
    return {
        "presale": presale,
        "tell": telling,
        "pb": pb,
        "bar": telling.bar_of(presale),
        "closes_in": presale.terms.close_time.seconds - time.time(),
        "live_path": f"/shop/items/{presale.presale_id}/live",
    }


async def _item(
    browsing: Browsing,
    presale: pb.Presale,
    *,
    at: str,
    place: int,
    typed: dict[str, str] | None = None,
    request_id: str = "",
    problems: dict[str, list[str]] | None = None,
    status: int = 200,
) -> Response:
    shop = await browsing.visit.studio.shops.of(presale.user_id)
    return browsing.show(
        "sold.html",
        status,
        shop=shop,
        at=at,
        place=place,
        typed={"units": "1", "payment_method": ""} | dict.fromkeys(RECIPIENT, "") | (typed or {}),
        request_id=request_id or str(uuid4()),
        problems=problems or {},
        methods=browsing.visit.studio.payment_methods,
        **_shown(presale),
    )
