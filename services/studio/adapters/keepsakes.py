"""Starred and shared pictures in SQL."""

import re
import secrets

from sqlalchemy import Table, delete, select, tuple_

from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.studio.adapters.tables import shares, stars
from services.studio.ports import Keepsakes, Kept, KeptPage

_TOKEN_BYTES = 24
_A_PAGE = 60
_PAGE = re.compile(r"([0-9]{1,18})-([0-9a-f-]{36})")  # the last row's time and picture


class SqlKeepsakes(Keepsakes):
    """A row a star, a row a link."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def star(self, kept: Kept, *, starred: bool) -> None:
        if not starred:
            await self._drop(stars, kept.user_id, kept.image_id)
            return
        async with self._database.writing() as connection:
            insert = insert_into(connection, stars).values(
                user_id=kept.user_id,
                image_id=kept.image_id,
                group_id=kept.group_id,
                create_time_us=self._clock(),
            )
            await connection.execute(insert.on_conflict_do_nothing())

    async def starred(self, user_id: str, page: str = "") -> KeptPage:
        return await self._page(stars, user_id, page)

    async def share(self, kept: Kept) -> Kept:
        row = {
            "token": secrets.token_urlsafe(_TOKEN_BYTES),
            "user_id": kept.user_id,
            "image_id": kept.image_id,
            "group_id": kept.group_id,
            "create_time_us": self._clock(),
        }
        theirs = (shares.c.user_id == kept.user_id, shares.c.image_id == kept.image_id)
        async with self._database.writing() as connection:
            await connection.execute(insert_into(connection, shares).values(row).on_conflict_do_nothing())
            token = (await connection.execute(select(shares.c.token).where(*theirs))).scalar_one()
        return Kept(kept.user_id, kept.group_id, kept.image_id, token)

    async def revoke(self, user_id: str, image_id: str) -> None:
        await self._drop(shares, user_id, image_id)

    async def shared(self, user_id: str, page: str = "") -> KeptPage:
        return await self._page(shares, user_id, page)

    async def of_group(self, user_id: str, group_id: str) -> tuple[set[str], dict[str, str]]:
        stars_of, shares_of = (
            select(table).where(table.c.user_id == user_id, table.c.group_id == group_id) for table in (stars, shares)
        )
        async with self._database.transaction() as connection:
            starred = {row.image_id for row in await connection.execute(stars_of)}
            return starred, {row.image_id: row.token for row in await connection.execute(shares_of)}

    async def by_token(self, token: str) -> Kept | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(shares).where(shares.c.token == token))).one_or_none()
        return None if row is None else Kept(row.user_id, row.group_id, row.image_id, row.token)

    async def _page(self, table: Table, user_id: str, page: str) -> KeptPage:
        at = tuple_(table.c.create_time_us, table.c.image_id)
        query = select(table).where(table.c.user_id == user_id)
        query = query.order_by(table.c.create_time_us.desc(), table.c.image_id.desc()).limit(_A_PAGE + 1)
        if after := _PAGE.fullmatch(page):
            query = query.where(at < tuple_(int(after[1]), after[2]))
        async with self._database.transaction() as connection:
            rows = list(await connection.execute(query))
        last = rows[_A_PAGE - 1] if len(rows) > _A_PAGE else None
        kept = [Kept(row.user_id, row.group_id, row.image_id, row._mapping.get("token", "")) for row in rows[:_A_PAGE]]
        return KeptPage(kept, "" if last is None else f"{last.create_time_us}-{last.image_id}")

    async def _drop(self, table: Table, user_id: str, image_id: str) -> None:
        theirs = (table.c.user_id == user_id, table.c.image_id == image_id)
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(table).where(*theirs))
