"""Starred and shared pictures in SQL."""

import secrets
from collections.abc import Sequence

from sqlalchemy import Table, delete, select

from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.studio.adapters.tables import shares, stars
from services.studio.ports import Keepsakes, Kept

_TOKEN_BYTES = 24


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

    async def starred(self, user_id: str) -> Sequence[Kept]:
        query = select(stars).where(stars.c.user_id == user_id).order_by(stars.c.create_time_us.desc())
        async with self._database.transaction() as connection:
            return [Kept(row.user_id, row.group_id, row.image_id) for row in await connection.execute(query)]

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

    async def shared(self, user_id: str) -> Sequence[Kept]:
        query = select(shares).where(shares.c.user_id == user_id).order_by(shares.c.create_time_us.desc())
        async with self._database.transaction() as connection:
            return [Kept(row.user_id, row.group_id, row.image_id, row.token) for row in await connection.execute(query)]

    async def by_token(self, token: str) -> Kept | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(shares).where(shares.c.token == token))).one_or_none()
        return None if row is None else Kept(row.user_id, row.group_id, row.image_id, row.token)

    async def _drop(self, table: Table, user_id: str, image_id: str) -> None:
        theirs = (table.c.user_id == user_id, table.c.image_id == image_id)
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(table).where(*theirs))
