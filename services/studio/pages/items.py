"""A merchant's items: what is on sale, how far it has come, and what its merchant can do about it."""

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter
from fastapi.responses import Response
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.runtime.fields import Fields
from services.studio import listings, telling
from services.studio.listings import CURRENCIES, Listing
from services.studio.problems import by_field
from services.studio.visits import Acting, Form, Sent, Visit, to

router = APIRouter()
MOST_NAME_CHARS = 80
MOST_SHIPPED = 500  # orders by one click
_SHIPPED_FIELD = "tracking-"
_DECISIONS = {"produce": pb.DECISION_PRODUCE, "refund": pb.DECISION_REFUND}


@router.get("/items")
async def all_items(visit: Acting, page: str = "") -> Response:
    found = await _page_of(visit.studio.items.presales(visit.user_id, page))
    shop = await visit.studio.shops.of(visit.user_id)
    return visit.show(
        "items.html",
        presales=found.presales,
        next_page=found.next_page_token,
        shop=shop,
        shop_url=f"{visit.studio.public_url}/shop/",
        most_name=MOST_NAME_CHARS,
        tell=telling,
    )


@router.post("/items/shop")
async def name_shop(sent: Form) -> Response:
    """What buyers read as the shop's name."""
    fields, visit = Fields(), sent.visit
    name = fields.text(" ".join(sent.text("name").split()), "name", MOST_NAME_CHARS)
    fields.done()
    await visit.studio.shops.open(visit.user_id)
    await visit.studio.shops.rename(visit.user_id, name)
    return to("/items")


@router.get("/items/new")
async def new(visit: Acting, group: UUID, image: UUID) -> Response:
    """The form that sells a picture."""
    await _check_picture(visit, str(group), str(image))
    closes = pb.PresaleTerms()
    closes.close_time.FromSeconds(int(time.time()) // 3600 * 3600 + 14 * 86_400)
    start = Listing(group_id=str(group), image_id=str(image), close_time=listings.local_time(closes.close_time))
    return _form(visit, start, request_id=str(uuid4()))


@router.post("/items")
async def create(sent: Form) -> Response:
    """A draft; the same form sent twice is one."""
    visit = sent.visit
    listing = listings.of_form(sent.texts(), Listing())
    request_id = sent.text("request_id")
    try:
        terms = listings.terms_of(listing)
        request = api.CreatePresaleRequest(request_id=request_id, user_id=visit.user_id, terms=terms)
        presale = await visit.studio.items.create(request)
    except InvalidArgument as error:
        return _form(visit, listing, request_id=request_id, error=listings.as_typed(error), status=400)
    await visit.studio.shops.open(visit.user_id)
    return to(f"/items/{presale.presale_id}")


@router.get("/items/{presale_id}")
async def look(presale_id: UUID, visit: Acting, orders: str = "", changes: str = "") -> Response:
    presale = await visit.studio.items.presale(visit.user_id, str(presale_id))
    return await _page(visit, presale, orders=orders, changes=changes)


@router.get("/items/{presale_id}/live")
async def live(presale_id: UUID, visit: Acting) -> Response:
    """The part of an item's page that changes by itself."""
    presale = await visit.studio.items.presale(visit.user_id, str(presale_id))
    return visit.show("live.html", **_shown(visit, presale))


@router.get("/items/{presale_id}/edit")
async def edit(presale_id: UUID, visit: Acting) -> Response:
    presale = await visit.studio.items.presale(visit.user_id, str(presale_id))
    if presale.state != pb.PRESALE_STATE_DRAFT:
        return to(f"/items/{presale_id}")
    return _form(visit, listings.of_terms(presale.terms), presale_id=presale.presale_id, etag=presale.etag)


@router.post("/items/{presale_id}/edit")
async def store(presale_id: UUID, sent: Form) -> Response:
    """A draft with other terms; one that another tab has changed meanwhile stays as it is."""
    visit = sent.visit
    listing, etag = listings.of_form(sent.texts(), Listing()), sent.text("etag")
    named = {"presale_id": str(presale_id), "etag": etag}
    try:
        terms = listings.terms_of(listing)
        request = api.UpdatePresaleRequest(user_id=visit.user_id, terms=terms, **named)
        await visit.studio.items.edit(request)
    except InvalidArgument as error:
        return _form(visit, listing, error=listings.as_typed(error), status=400, **named)
    except FailedPrecondition as error:
        return await _refused(visit, str(presale_id), error)
    return to(f"/items/{presale_id}")


@router.post("/items/{presale_id}/open")
async def put_on_sale(presale_id: UUID, sent: Form) -> Response:
    request = api.OpenPresaleRequest(**_named(presale_id, sent), etag=sent.text("etag"))
    return await _changed(sent, presale_id, sent.visit.studio.items.open(request))


@router.post("/items/{presale_id}/cancel")
async def cancel(presale_id: UUID, sent: Form) -> Response:
    request = api.CancelPresaleRequest(**_named(presale_id, sent), etag=sent.text("etag"), reason=_reason(sent))
    return await _changed(sent, presale_id, sent.visit.studio.items.cancel(request))


@router.post("/items/{presale_id}/decide")
async def decide(presale_id: UUID, sent: Form) -> Response:
    decision = _DECISIONS.get(sent.text("decision"), pb.DECISION_UNSPECIFIED)
    request = api.DecidePresaleRequest(
        **_named(presale_id, sent), etag=sent.text("etag"), decision=decision, reason=_reason(sent)
    )
    return await _changed(sent, presale_id, sent.visit.studio.items.decide(request))


@router.post("/items/{presale_id}/delay")
async def delay(presale_id: UUID, sent: Form) -> Response:
    """Buyers are asked; the same form sent twice asks once."""
    fields = Fields()
    days = listings.whole(fields, sent.text("days").strip(), "days")
    try:
        fields.done()
        request = api.DelayPresaleRequest(
            **_named(presale_id, sent), days=days, reason=_reason(sent), request_id=sent.text("request_id")
        )
    except InvalidArgument as error:
        return await _refused(sent.visit, str(presale_id), error)
    return await _changed(sent, presale_id, sent.visit.studio.items.delay(request))


@router.post("/items/{presale_id}/give-up")
async def give_up(presale_id: UUID, sent: Form) -> Response:
    request = api.FailProductionRequest(**_named(presale_id, sent), reason=_reason(sent))
    return await _changed(sent, presale_id, sent.visit.studio.items.give_up(request))


@router.post("/items/{presale_id}/ship")
async def ship(presale_id: UUID, sent: Form) -> Response:
    """One order, or all that can be shipped, each with the carrier's number that stands beside it."""
    order_id = sent.text("order_id")
    return await _changed(sent, presale_id, _ship_one(sent, order_id) if order_id else _ship_all(sent, presale_id))


async def _ship_one(sent: Sent, order_id: str) -> None:
    visit = sent.visit
    tracking = sent.text(_SHIPPED_FIELD + order_id).strip()
    await visit.studio.items.ship(api.ShipOrderRequest(order_id=order_id, user_id=visit.user_id, tracking=tracking))


async def _ship_all(sent: Sent, presale_id: UUID) -> None:
    items, user_id, token, shipped = sent.visit.studio.items, sent.visit.user_id, "", 0
    while shipped < MOST_SHIPPED:
        found = await items.orders(user_id, str(presale_id), token)
        for order in found.orders:
            if order.state == pb.ORDER_STATE_COMMITTED:
                await _ship_one(sent, order.order_id)
                shipped += 1
        token = found.next_page_token
        if not token:
            return


def _named(presale_id: UUID, sent: Sent) -> dict[str, str]:
    return {"presale_id": str(presale_id), "user_id": sent.visit.user_id}


def _reason(sent: Sent) -> str:
    return sent.text("reason").strip()


async def _changed(sent: Sent, presale_id: UUID, work: Any) -> Response:
    """The item's page after a change; what the state does not allow (any more) is said there."""
    try:
        await work
    except (FailedPrecondition, InvalidArgument) as error:
        return await _refused(sent.visit, str(presale_id), error)
    return to(f"/items/{presale_id}")


async def _refused(visit: Visit, presale_id: str, error: FailedPrecondition | InvalidArgument) -> Response:
    """The item as it is now, and why what was asked for did not happen."""
    presale = await visit.studio.items.presale(visit.user_id, presale_id)
    if isinstance(error, InvalidArgument):
        return await _page(visit, presale, problems=by_field(error, visit.language), status=400)
    field = error.metadata.get("field", "")
    if field == "etag":
        said = visit.language.say("It was changed in another tab meanwhile: look at it, and try again.")
    elif field == "terms.close_time":
        said = visit.language.say("The sale would close in the past, or too far ahead: change when it closes.")
    else:
        said = visit.language.say("This cannot be done any more: look where it stands now.")
    return await _page(visit, presale, problem=said, status=409)


def _form(
    visit: Visit,
    listing: Listing,
    *,
    request_id: str = "",
    presale_id: str = "",
    etag: str = "",
    error: InvalidArgument | None = None,
    status: int = 200,
) -> Response:
    """The form of a draft: a new one by its request id, or one that is there."""
    known = listing.currency in CURRENCIES or not listing.currency
    return visit.show(
        "listing.html",
        status,
        listing=listing,
        request_id=request_id,
        presale_id=presale_id,
        etag=etag,
        currencies=CURRENCIES if known else (*CURRENCIES, listing.currency),
        problems=by_field(error, visit.language),
    )


def _shown(visit: Visit, presale: pb.Presale) -> dict[str, Any]:
    """What an item's live part needs."""
    now = time.time()
    return {
        "presale": presale,
        "tell": telling,
        "pb": pb,
        "bar": telling.bar_of(presale),
        "closes_in": presale.terms.close_time.seconds - now,
        "decides_in": presale.decide_by_time.seconds - now,
        "live_path": f"/items/{presale.presale_id}/live",
    }


async def _page(
    visit: Visit,
    presale: pb.Presale,
    *,
    orders: str = "",
    changes: str = "",
    problem: str = "",
    problems: Mapping[str, list[str]] | None = None,
    status: int = 200,
) -> Response:
    items, presale_id = visit.studio.items, presale.presale_id
    ordered = await _page_of(items.orders(visit.user_id, presale_id, orders))
    happened = await _page_of(items.changes(visit.user_id, presale_id, changes))
    return visit.show(
        "item.html",
        status,
        orders=ordered.orders,
        next_orders=ordered.next_page_token,
        changes=happened.changes,
        next_changes=happened.next_page_token,
        request_id=str(uuid4()),
        problem=problem,
        problems=problems or {},
        item_url=f"{visit.studio.public_url}/shop/items/{presale_id}",
        **_shown(visit, presale),
    )


async def _page_of(asked: Any) -> Any:
    """A page of a list; a token that is of no list names no page."""
    try:
        return await asked
    except InvalidArgument as error:
        raise NotFound("there is no such page") from error


async def _check_picture(visit: Visit, group_id: str, image_id: str) -> None:
    group = await visit.studio.platform.group(visit.user_id, group_id, with_pictures=False)
    if all(candidate.image_id != image_id for candidate in group.candidates):
        raise NotFound("there is no such picture")
