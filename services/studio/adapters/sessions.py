"""Sessions in SQL."""

from dataclasses import asdict

from sqlalchemy import delete, select

from services.runtime.database import Database, insert_into
from services.studio.adapters.tables import sessions
from services.studio.ports import Session, Sessions


class SqlSessions(Sessions):
    """One row a browser."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, session: Session) -> None:
        row = asdict(session) | {"merchants": list(session.merchants)}
        async with self._database.writing() as connection:
            insert = insert_into(connection, sessions).values(row)
            await connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=row))

    async def get(self, key: str) -> Session | None:
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(sessions).where(sessions.c.key == key))).one_or_none()
        return None if row is None else Session(**dict(row._mapping) | {"merchants": tuple(row.merchants)})

    async def drop(self, key: str) -> None:
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(sessions).where(sessions.c.key == key))

    async def forget(self, unused_since_us: int) -> None:
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(sessions).where(sessions.c.use_time_us < unused_since_us))
