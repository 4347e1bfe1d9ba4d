"""A service's SQL database: SQLite in a file or PostgreSQL, by URL, with its tables made on first contact.

It knows engines and the forms of their failures. Tables and queries belong to each service's adapters/.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table, event, literal, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.runtime.errors import Unavailable

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}


class Database:
    """One engine and its tables. Nothing is connected before the first use, so the database may start later."""

    def __init__(self, url: str, metadata: MetaData, *, timeout_s: float) -> None:
        self._engine = _engine(make_url(url), timeout_s)
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._ready = False
        self._creating = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits at the end, rolls back on an exception; Unavailable when the database does not answer."""
        try:
            await self._ensure_tables()
            async with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError) as error:
            raise Unavailable("database") from error

    async def check(self) -> None:
        """Returns when the database answers, takes writes and has our tables."""
        try:
            async with self.transaction() as connection:
                for table in self._metadata.sorted_tables:
                    await connection.execute(select(literal(1)).select_from(table).limit(1))
                if connection.dialect.name == "postgresql":
                    is_replica = (await connection.execute(text("SELECT pg_is_in_recovery()"))).scalar()
                    if is_replica:
                        raise Unavailable("database", "is a replica and takes no writes")
        except Unavailable:
            self._ready = False  # it may come back empty: then our tables are made again
            raise
        except ProgrammingError as error:
            self._ready = False
            raise Unavailable("database", "has lost our tables") from error

    async def _ensure_tables(self) -> None:
        if self._ready:
            return
        async with self._creating:
            if not self._ready:
                async with self._engine.begin() as connection:
                    await _share_file(connection, self._timeout_s)
                    await _lock_schema(connection)
                    await connection.run_sync(self._metadata.create_all)
                self._ready = True

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()


def insert_into(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ON CONFLICT, which both databases understand and SQLAlchemy spells per dialect."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _engine(url: URL, timeout_s: float) -> AsyncEngine:
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"database URL must begin with one of {', '.join(_DRIVERS)}, not {backend}")
    url = url.set(drivername=_DRIVERS[backend])
    limit_ms = max(1, round(timeout_s * 1000))
    if backend == "postgresql":
        return create_async_engine(
            url,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": max(2, round(timeout_s)),
                "options": f"{url.query.get('options', '')} -c lock_timeout={limit_ms} -c statement_timeout={limit_ms}",
            },
        )
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    pool = {} if url.database in (None, "", ":memory:") else {"pool_timeout": timeout_s}
    engine = create_async_engine(url, connect_args={"timeout": timeout_s}, **pool)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


async def _share_file(connection: AsyncConnection, timeout_s: float) -> None:
    """Turns SQLite's WAL on, once for the file: readers and one writer work together, also from several processes.

    SQLite waits for a locked file everywhere but here, where it answers "locked" at once when another is writing.
    """
    if connection.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


async def _lock_schema(connection: AsyncConnection) -> None:
    """Replicas that start together must not create the same tables at once."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('perfusion.schema'))"))
    else:  # by itself, SQLite's driver would begin a transaction at the first write, after looking what is there
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
