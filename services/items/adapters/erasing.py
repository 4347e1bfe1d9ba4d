"""A merchant leaves: what must be kept of money is kept without them, everything else goes.

Books of money have to be kept for years. So presales with orders stay, with their orders, payments and entries, under a
name that nobody can turn back into the merchant's and without a word that the merchant wrote; the rest is deleted.
It knows the tables and no service.
"""

import secrets

from sqlalchemy import Connection, delete, exists, select, update

from services.items.adapters.tables import OUTBOX, changes, delays, orders, presales
from services.items.orders import ACTIVE
from services.items.presales import OVER, State


class UnderWay(Exception):
    """Buyers' money is still to be moved; the message names the presales."""


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
    nobody = f"erased {secrets.token_hex(16)}"
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


_SILENT = {"title": "", "description": "", "group_id": "", "image_id": ""}
