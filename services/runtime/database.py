"""A service's SQL database: SQLite in a file or PostgreSQL, by URL, brought to its schema on first contact.

It knows engines, what they promise, and the forms of their failures. Tables, revisions and queries belong to each
service. What a committed transaction wrote is on disk: SQLite with synchronous=FULL, PostgreSQL by its own default.
"""

import asyncio
import logging
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, column, create_engine, event, literal, select, table, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from services.runtime import migrations
from services.runtime.errors import Unavailable
from services.runtime.files import make_folder
from services.runtime.migrations import Schema

_DRIVERS = {"sqlite": ("sqlite+pysqlite", "sqlite+aiosqlite"), "postgresql": ("postgresql+psycopg",) * 2}
_READ_ONLY = "25006"  # PostgreSQL's
_UNDEFINED_TABLE = "42P01"  # PostgreSQL's; SQLite's is an OperationalError
_FAULTS_OF_OURS = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
_LOST_TABLES = "has lost our tables"
_LOST_FILE = "has lost its file"
_LOCKED = "is locked by another writer"
_PROBLEMS = {  # by words of either database
    "locked": _LOCKED,
    "lock timeout": _LOCKED,
    "readonly": "takes no writes",
    "read-only": "takes no writes",
    "disk is full": "has a full disk",
    "no space left": "has a full disk",
    "no such table": _LOST_TABLES,
    "disk i/o error": "cannot be read or written",
    "malformed": "is damaged",
    "not a database": "is damaged",
}
_ROOM_BYTES = 2**20  # a disk with less left is full: SQLite's log may grow by this much to finish what has begun
_LITTLE_ROOM_BYTES = 256 * 2**20  # with less left, the log warns

_log = logging.getLogger(__name__)


class Database:
    """One engine and its schema. Nothing is connected before the first use, so the database may start later.

    With `migrate`, the first contact brings the database to the schema; without, an older one is refused.
    """

    def __init__(self, url: str, schema: Schema, *, timeout_s: float, migrate: bool = True) -> None:
        self._url = url
        self._schema = schema
        self._timeout_s = timeout_s
        self._migrate = migrate
        self._engine = _open_async(url, timeout_s)
        self._generation = 0  # of connections
        event.listen(self._engine.sync_engine, "connect", self._sign)
        event.listen(self._engine.sync_engine, "checkout", self._refuse_old)
        self._ready = False
        self._path = _file(url)
        self._file: tuple[int, int] | None = None  # the numbers of the file that has our tables
        self._has_room = True
        self._failed = False  # since the last check that could write
        self._preparing = asyncio.Lock()
        self._writer = asyncio.Lock() if make_url(url).get_backend_name() == "sqlite" else None

    @asynccontextmanager
    async def writing(self, *, new: bool = True) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes from its first statement on.

        SQLite has one writer at a time, and who waits for it sleeps and looks again: so those of this process queue,
        each as long as it would wait for a lock. On a full disk nothing `new` begins, as `check` says, so that there is
        room to finish what has begun.
        """
        async with self._turn(), self.transaction() as connection:
            if new:
                self._check_room()
            yield connection

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """This process's one writer, where there is only one; Unavailable when it is another's for too long."""
        if self._writer is None:
            yield
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._writer.acquire()
        except TimeoutError as error:
            raise Unavailable("database", _LOCKED) from error
        try:
            yield
        finally:
            self._writer.release()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits at the end, rolls back on an exception; Unavailable when the database does not answer."""
        try:
            await self._check_file()
            await self._ensure_schema()
            file = self._file
            async with self._engine.begin() as connection:
                yield connection
            if self._file_numbers() != file:
                raise Unavailable("database", _LOST_FILE)
        except DBAPIError as error:
            problem = _problem(error)
            if problem is None:
                raise
            if problem == _LOST_TABLES:
                self._ready = False  # it may have come back empty: then they are made again
            self._failed |= problem != _LOCKED
            raise Unavailable("database", problem) from error
        except (PoolTimeoutError, OSError) as error:
            raise Unavailable("database") from error

    async def check(self) -> None:
        """Returns when the database takes a write and has our tables.

        It waits for locks half as long as calls do, so that health knows before calls fail.
        """
        async with self._checking() as connection:
            self._check_room()
            await self._write(connection)
        if self._failed:
            self._failed = False
            self._renew()  # a connection that was made meanwhile might take no writes for ever

    async def check_reads(self) -> None:
        """Returns when our tables can be read, also from a disk or a server that takes no writes."""
        async with self._checking():
            pass

    @asynccontextmanager
    async def _checking(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that has found our tables."""
        async with self.transaction() as connection:
            for ours in self._schema.metadata.sorted_tables:
                await connection.execute(select(literal(1)).select_from(ours).limit(1))
            yield connection

    async def _write(self, connection: AsyncConnection) -> None:
        """Writes the row of the database's revision anew, unless another replica is writing it just now."""
        limit_ms = max(1, round(self._timeout_s * 500))
        is_sqlite = connection.dialect.name == "sqlite"
        await connection.exec_driver_sql(
            f"PRAGMA busy_timeout={limit_ms}" if is_sqlite else f"SET LOCAL lock_timeout={limit_ms}"
        )
        version = table(self._schema.version_table, column("version_num"))
        free = select(version.c.version_num).with_for_update(skip_locked=True).scalar_subquery()
        try:
            await connection.execute(
                update(version).where(version.c.version_num == free).values(version_num=version.c.version_num)
            )
        finally:
            if is_sqlite and not connection.invalidated:
                await connection.exec_driver_sql(f"PRAGMA busy_timeout={round(self._timeout_s * 1000)}")

    async def _check_file(self) -> None:
        """SQLite would go on writing into a file that was deleted or replaced, and all of that would be lost."""
        if self._ready and self._file_numbers() != self._file:
            self._ready = False
            self._renew()
            raise Unavailable("database", _LOST_FILE)

    def _renew(self) -> None:
        """Every connection is made anew before it is used again. Pools that are disposed of forget those in use."""
        self._generation += 1

    def _sign(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["generation"] = self._generation

    def _refuse_old(self, _connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if record.info["generation"] != self._generation:
            raise DisconnectionError("made before the database changed")  # the pool connects again

    def _file_numbers(self) -> tuple[int, int] | None:
        """What tells SQLite's file from another of its name; None when it is not there, or for another database.

        The first files of two disks that are mounted one after the other often have the same number.
        """
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return (found.st_dev, found.st_ino) if found else None

    def _check_room(self) -> None:
        """On a full disk, SQLite still writes into room that its log already has, until it needs more."""
        if (path := self._path) is not None:
            free = shutil.disk_usage(path.parent).free
            if self._has_room != (free >= _LITTLE_ROOM_BYTES):
                self._has_room = not self._has_room
                level = logging.INFO if self._has_room else logging.WARNING
                _log.log(level, "the database's disk has %d MiB left", free // 2**20, extra={"file": str(path)})
            if free < _ROOM_BYTES:
                raise Unavailable("database", f"has a full disk ({free} bytes left)")

    async def _ensure_schema(self) -> None:
        if self._ready:
            return
        async with self._preparing:
            if not self._ready:
                # In a thread that a cancelled call leaves behind: a migration once begun goes to its end.
                await asyncio.to_thread(self._prepare)
                self._file = self._file_numbers()
                self._ready = True

    def _prepare(self) -> None:
        engine = open_engine(self._url, self._timeout_s)
        try:
            _share_file(engine, self._timeout_s)
            (migrations.upgrade if self._migrate else migrations.require_head)(engine, self._schema)
        finally:
            engine.dispose()

    async def close(self) -> None:
        """Closes the connections; those that are in use have as long to be given back as a lock.

        One that comes back to a pool that is disposed of is closed by nobody, and its thread never ends.
        """
        pool = self._engine.sync_engine.pool
        deadline = time.monotonic() + self._timeout_s
        while isinstance(pool, QueuePool) and pool.checkedout() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        await self._engine.dispose()


def _problem(error: DBAPIError) -> str | None:
    """What to tell a caller: nothing of the query, its values or the address. None for a fault of ours."""
    if getattr(error.orig, "sqlstate", "") == _UNDEFINED_TABLE:
        return _LOST_TABLES
    if isinstance(error, _FAULTS_OF_OURS):
        return None
    said = str(error.orig).lower()
    for words, problem in _PROBLEMS.items():
        if words in said:
            return problem
    return "does not answer"


def insert_into(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ON CONFLICT, which both databases understand and SQLAlchemy spells per dialect."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _file(url: str) -> Path | None:
    """SQLite's file; None for another database."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def open_engine(url: str, timeout_s: float) -> Engine:
    """An engine that blocks and keeps no connections, for work outside of calls."""
    parsed = _parse(url)
    driver, _ = _DRIVERS[parsed.get_backend_name()]
    if (path := _file(url)) is not None:
        make_folder(path.parent)
    engine = create_engine(
        parsed.set(drivername=driver), poolclass=NullPool, connect_args=_connect_args(parsed, timeout_s)
    )
    _set_up(engine)
    return engine


def _open_async(url: str, timeout_s: float) -> AsyncEngine:
    parsed = _parse(url)
    _, driver = _DRIVERS[parsed.get_backend_name()]
    engine = create_async_engine(
        parsed.set(drivername=driver),
        pool_timeout=timeout_s,
        pool_pre_ping=parsed.get_backend_name() == "postgresql",
        connect_args=_connect_args(parsed, timeout_s),
    )
    _set_up(engine.sync_engine)
    return engine


def _parse(url: str) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"database URL must begin with one of {', '.join(_DRIVERS)}, not {backend}")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("database URL must name a file, as sqlite:///FILE: a database in memory keeps nothing")
    return parsed


def _connect_args(url: URL, timeout_s: float) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": timeout_s, "factory": _SqliteConnection}
    limit_ms = max(1, round(timeout_s * 1000))
    return {
        "connect_timeout": max(2, round(timeout_s)),
        "options": f"{url.query.get('options', '')} -c lock_timeout={limit_ms} -c statement_timeout={limit_ms}",
    }


class _SqliteConnection(sqlite3.Connection):
    """Of a call that is cancelled, a cursor may live on, and its statement keeps a closed connection's lock with it."""

    def close(self) -> None:
        """Gives the lock up at once."""
        try:
            if self.in_transaction:
                self.rollback()
        finally:
            super().close()


def _set_up(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "handle_error", _forget_read_only)


def _forget_read_only(context: ExceptionContext) -> None:
    """A connection that was made while nothing could be written stays so: to SQLite's file, to PostgreSQL's replica."""
    error = context.original_exception
    read_only = str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_READONLY")
    if read_only or getattr(error, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True  # it and all others of its pool are made anew


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # in WAL mode, NORMAL would let a power loss undo what was acknowledged
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _share_file(engine: Engine, timeout_s: float) -> None:
    """Turns SQLite's WAL on, once for the file: readers and one writer work together, also from several processes.

    SQLite waits for a locked file everywhere but here, where it answers "locked" at once when another is writing.
    """
    if engine.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
