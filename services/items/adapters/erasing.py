"""A merchant, or a buyer, leaves: what must be kept of money is kept without them, everything else goes.

Books of money have to be kept for years. So presales with orders stay, with their orders, payments and entries, under a
name that nobody can turn back into the merchant's and without a word that the merchant wrote; the rest is deleted. Of
a buyer's orders the units, amounts, dates and states are kept, and nothing that says whose they are.
It knows the tables and no service.
"""

import secrets

from sqlalchemy import Connection, delete, exists, select, update

from services.items.adapters.tables import OUTBOX, changes, delays, orders, presales, recipients
from services.items.orders import ACTIVE
from services.items.presales import OVER, State


class UnderWay(Exception):
    """Buyers' money is still to be moved; the message names the presales, or orders."""


class NoOrder(Exception):
    """There is no such order."""


def erase(connection: Connection, user_id: str) -> dict[str, int]:
    """Rows of each table that were deleted, or no longer name the merchant.

    Raises:
        UnderWay: a sale of the merchant's is not over, or an order of it is on its way back. Nothing is changed.
    """
    theirs = select(presales.c.presale_id).where(presales.c.user_id == user_id)
    ended = presales.c.state.in_((*OVER, State.DRAFT))
    moving = exists().where(orders.c.presale_id == presales.c.presale_id, orders.c.state.in_(ACTIVE))
    open_ids = connection.execute(theirs.where(~ended | moving).with_for_update()).scalars().all()
    if open_ids:
        raise UnderWay(f"end these sales first: {', '.join(sorted(open_ids))}")
    with_orders = exists().where(orders.c.presale_id == presales.c.presale_id)
    empty = theirs.where(~with_orders)
    rows = {}
    for table in (changes, delays):
        gone = connection.execute(delete(table).where(table.c.presale_id.in_(empty))).rowcount
        blank = update(table).where(table.c.presale_id.in_(theirs)).values(reason="")
        rows[table.name] = gone + connection.execute(blank).rowcount
    gone = connection.execute(delete(presales).where(presales.c.presale_id.in_(empty))).rowcount
    kept = connection.execute(select(presales).where(presales.c.user_id == user_id)).all()
    nobody = _nobody()
    sold = select(orders.c.order_id).where(orders.c.user_id == user_id)
    rows[recipients.name] = connection.execute(delete(recipients).where(recipients.c.order_id.in_(sold))).rowcount
    for row in kept:
        silent = {name: {**getattr(row, name), **_SILENT} for name in ("terms", "asked")}
        here = presales.c.presale_id == row.presale_id
        connection.execute(update(presales).where(here).values(user_id=nobody, **silent))
    rows[presales.name] = gone + len(kept)
    theirs_sold = update(orders).where(orders.c.user_id == user_id).values(user_id=nobody, delay_reason="")
    rows[orders.name] = connection.execute(theirs_sold).rowcount
    for table in (OUTBOX.events, OUTBOX.keys):
        rows[table.name] = connection.execute(delete(table).where(table.c.key == user_id)).rowcount
    return rows


def erase_buyer(connection: Connection, order_id: str) -> tuple[str, dict[str, int]]:
    """Who placed an order goes from all of their orders. Returns who it was, and how many rows of each table changed.

    Raises:
        NoOrder: there is none of this id.
        UnderWay: an order of theirs is paid and not shipped, or on its way back. Nothing is changed.
    """
    buyer_id = connection.execute(select(orders.c.buyer_id).where(orders.c.order_id == order_id)).scalar_one_or_none()
    if buyer_id is None:
        raise NoOrder(f"there is no order {order_id}")
    theirs = orders.c.buyer_id == buyer_id
    ids = select(orders.c.order_id).where(theirs)
    open_ids = connection.execute(ids.where(orders.c.state.in_(ACTIVE)).with_for_update()).scalars().all()
    if open_ids:
        raise UnderWay(f"these orders have to end first: {', '.join(sorted(open_ids))}")
    gone = connection.execute(delete(recipients).where(recipients.c.order_id.in_(ids))).rowcount
    blank = {"buyer_id": _nobody(), "payment_method": "", "action_url": "", "failure": "", "encounter": None}
    changed = connection.execute(update(orders).where(theirs).values(blank)).rowcount
    return buyer_id, {recipients.name: gone, orders.name: changed}


def _nobody() -> str:
    return f"erased {secrets.token_hex(16)}"


_SILENT = {"title": "", "description": "", "group_id": "", "image_id": ""}
