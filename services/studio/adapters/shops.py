"""Shops and buyers' orders in SQL."""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update

from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.studio.adapters.tables import placed_orders, shops
from services.studio.ports import Placed, Shop, Shops

_ID_BYTES = 12


class SqlShops(Shops):
    """A row a shop, a row an order."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def open(self, user_id: str) -> Shop:
        row = {
            "user_id": user_id,
            "shop_id": secrets.token_urlsafe(_ID_BYTES),
            "name": "",
            "create_time_us": self._clock(),
        }
        async with self._database.writing() as connection:
            await connection.execute(insert_into(connection, shops).values(row).on_conflict_do_nothing())
            found = (await connection.execute(select(shops).where(shops.c.user_id == user_id))).one()
        return Shop(found.user_id, found.shop_id, found.name)

    async def of(self, user_id: str) -> Shop | None:
        return await self._shop(shops.c.user_id == user_id)

    async def by_id(self, shop_id: str) -> Shop | None:
        return await self._shop(shops.c.shop_id == shop_id)

    async def _shop(self, which: Any) -> Shop | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(shops).where(which))).one_or_none()
        return None if row is None else Shop(row.user_id, row.shop_id, row.name)

    async def rename(self, user_id: str, name: str) -> None:
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(shops).where(shops.c.user_id == user_id).values(name=name))

    async def note(self, placed: Placed) -> None:
        row = {
            "order_id": placed.order_id,
            "buyer_id": placed.buyer_id,
            "user_id": placed.user_id,
            "presale_id": placed.presale_id,
            "create_time_us": self._clock(),
        }
        async with self._database.writing() as connection:
            await connection.execute(insert_into(connection, placed_orders).values(row).on_conflict_do_nothing())

    async def placed(self, buyer_id: str, order_id: str) -> Placed | None:
        its = placed_orders.c
        query = select(placed_orders).where(its.order_id == order_id, its.buyer_id == buyer_id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _placed(row)

    async def all_placed(self, buyer_id: str, most: int) -> Sequence[Placed]:
        its = placed_orders.c
        query = select(placed_orders).where(its.buyer_id == buyer_id).order_by(its.create_time_us.desc()).limit(most)
        async with self._database.transaction() as connection:
            return [_placed(row) for row in await connection.execute(query)]


def _placed(row: Any) -> Placed:
    return Placed(row.order_id, row.buyer_id, row.user_id, row.presale_id)
