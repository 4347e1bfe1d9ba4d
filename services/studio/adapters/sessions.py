"""Sessions in SQL."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select, update

from services.runtime.database import Database
from services.studio.adapters.tables import sessions
from services.studio.ports import Session, Sessions


class SqlSessions(Sessions):
    """One row a browser."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, session: Session) -> None:
        row = asdict(session) | {"merchants": list(session.merchants)}
        async with self._database.writing() as connection:
            await connection.execute(insert(sessions).values(row))

    async def touch(self, key: str, use_time_us: int) -> None:
        await self._change(key, use_time_us=use_time_us)

    async def act_for(self, key: str, user_id: str, form_token: str) -> None:
        await self._change(key, user_id=user_id, form_token=form_token)

    async def remember(self, key: str, login: Mapping[str, Any]) -> None:
        await self._change(key, login=dict(login))

    async def _change(self, key: str, **values: Any) -> None:
        """Of one that is still there; what another request changes meanwhile stays."""
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(sessions).where(sessions.c.key == key).values(values))

    async def get(self, key: str) -> Session | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(sessions).where(sessions.c.key == key))).one_or_none()
        return None if row is None else Session(**dict(row._mapping) | {"merchants": tuple(row.merchants)})

    async def drop(self, key: str) -> None:
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(sessions).where(sessions.c.key == key))

    async def forget(self, unused_since_us: int, unknown_since_us: int) -> None:
        is_unknown = (sessions.c.person == "") & (sessions.c.create_time_us < unknown_since_us)
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(sessions).where((sessions.c.use_time_us < unused_since_us) | is_unknown))
