"""A buyer's orders, for the browser that placed them; and where the provider of payments posts what it knows."""

import asyncio
import time
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from perfusion.v1 import presale_pb2 as pb

from services.runtime.errors import FailedPrecondition, NotFound
from services.studio import telling
from services.studio.buying import Browsing, Buying, BuyingForm
from services.studio.ports import Placed
from services.studio.visits import Anybody, to

router = APIRouter()
MOST_LISTED = 50
SIGNATURE = "stripe-signature"


@router.get("/orders")
async def all_orders(browsing: Buying) -> Response:
    """What this browser has ordered, of all shops."""
    studio = browsing.visit.studio
    placed = await studio.shops.all_placed(browsing.buyer.buyer_id, MOST_LISTED)
    orders = await asyncio.gather(*(studio.items.order(each) for each in placed))
    presales = {each: studio.items.shown(each) for each in {order.presale_id for order in orders}}
    titles = dict(zip(presales, [each.terms.title for each in await asyncio.gather(*presales.values())], strict=True))
    return browsing.show("orders.html", shop=None, orders=orders, titles=titles, tell=telling)


@router.get("/orders/{order_id}")
async def look(order_id: UUID, browsing: Buying) -> Response:
    placed = await _own(browsing, order_id)
    return await _page(browsing, placed, await browsing.visit.studio.items.order(placed))


@router.get("/orders/{order_id}/live")
async def live(order_id: UUID, browsing: Buying) -> Response:
    """The part of an order's page that changes by itself."""
    placed = await _own(browsing, order_id)
    studio = browsing.visit.studio
    order, presale = await asyncio.gather(studio.items.order(placed), studio.items.shown(placed.presale_id))
    return browsing.visit.show("ordered.html", session=None, **_shown(order, presale))


@router.get("/orders/{order_id}/picture.png")
async def picture(order_id: UUID, browsing: Buying) -> Response:
    """What was ordered, as long as there is the order, whatever became of the sale."""
    placed = await _own(browsing, order_id)
    studio = browsing.visit.studio
    terms = (await studio.items.shown(placed.presale_id)).terms
    return Response(await studio.pictures.png(placed.user_id, terms.group_id, terms.image_id), media_type="image/png")


@router.post("/orders/{order_id}/cancel")
async def cancel(order_id: UUID, form: BuyingForm) -> Response:
    """Cancels it, or gives it back."""
    placed = await _own(form.browsing, order_id)
    return await _changed(form, placed, form.browsing.visit.studio.items.cancel_order(placed))


@router.post("/orders/{order_id}/delay")
async def answer(order_id: UUID, form: BuyingForm) -> Response:
    """Whether a later date suits."""
    placed = await _own(form.browsing, order_id)
    consents = form.sent.text("consents") == "1"
    return await _changed(form, placed, form.browsing.visit.studio.items.answer_delay(placed, consents=consents))


@router.post("/payments")
async def receive(request: Request, visit: Anybody) -> Response:
    """What the provider of payments posts; 2xx only when it was taken, so that it posts anything else again."""
    payload, signature = await request.body(), request.headers.get(SIGNATURE, "")
    await visit.studio.items.receive(payload, signature)
    return Response(status_code=204)


async def _own(browsing: Browsing, order_id: UUID) -> Placed:
    placed = await browsing.visit.studio.shops.placed(browsing.buyer.buyer_id, str(order_id))
    if placed is None:
        raise NotFound("order_id: there is no such order", field="order_id")
    return placed


async def _changed(form: BuyingForm, placed: Placed, work: Any) -> Response:
    try:
        await work
    except FailedPrecondition:
        problem = form.browsing.visit.language.say("This cannot be done any more: look where it stands now.")
        order = await form.browsing.visit.studio.items.order(placed)
        return await _page(form.browsing, placed, order, problem=problem, status=409)
    return to(f"/orders/{placed.order_id}")


def _shown(order: pb.Order, presale: pb.Presale) -> dict[str, Any]:
    now = time.time()
    return {
        "order": order,
        "presale": presale,
        "tell": telling,
        "pb": pb,
        "bar": telling.bar_of(presale),
        "closes_in": presale.terms.close_time.seconds - now,
        "may_return": order.state == pb.ORDER_STATE_SHIPPED and now < order.return_by_time.seconds,
        "live_path": f"/orders/{order.order_id}/live",
        "action_url": order.payment.action_url if order.payment.action_url.startswith(("https://", "http://")) else "",
    }


async def _page(
    browsing: Browsing, placed: Placed, order: pb.Order, *, problem: str = "", status: int = 200
) -> Response:
    studio = browsing.visit.studio
    presale, shop = await asyncio.gather(studio.items.shown(placed.presale_id), studio.shops.of(placed.user_id))
    return browsing.show("order.html", status, shop=shop, problem=problem, **_shown(order, presale))
