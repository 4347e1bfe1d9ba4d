"""A service's database: its schema on first contact, transactions, checks, and what is said when it does not answer."""

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, text
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError

from services.runtime import migrations
from services.runtime.database import Database, open_engine
from services.runtime.errors import Unavailable
from services.runtime.migrations import Schema
from tests.services.postgres import Postgres
from tests.services.running import no_database_thread
from tests.services.runtime.revisions import add_revision, schema_of
from tests.services.runtime.test_files import files_of_at_most

METADATA = MetaData()
things = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("name", String(10)))
THINGS = 'op.create_table("things", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(10)))'


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    add_revision(tmp_path / "revisions", 1, THINGS)
    return schema_of(METADATA, tmp_path / "revisions")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/folder/made/on/demand.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, url: str) -> str:
    """An empty database, of each kind."""
    return url if request.param == "sqlite" else str(request.getfixturevalue("postgres").new_database())


async def count(database: Database) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(select(func.count()).select_from(things))).scalar_one())


async def test_tables_are_made_on_first_contact_and_kept(url: str, schema: Schema) -> None:
    for expected in (0, 1):
        database = Database(url, schema, timeout_s=5)
        assert await count(database) == expected
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(name="hat"))
        await database.close()


async def test_connections_of_a_time_without_writes_are_not_kept(any_url: str, schema: Schema) -> None:
    database = Database(any_url, schema, timeout_s=5)
    no_writes = "PRAGMA query_only=ON" if "sqlite" in any_url else "SET default_transaction_read_only=on"
    await database.check()
    async with database.transaction() as connection:
        await connection.exec_driver_sql(no_writes)
    with pytest.raises(Unavailable):
        await database.check()
    for _ in range(3):
        await database.check()
    await database.close()


@pytest.mark.parametrize("failure", ["attempt to write a readonly database", "disk I/O error"])
async def test_a_connection_that_was_made_for_reading_meanwhile_is_not_kept(
    url: str, schema: Schema, failure: str
) -> None:
    database = Database(url, schema, timeout_s=5)
    await database.check()
    pragmas = ["PRAGMA query_only=ON"]
    engine = database._engine.sync_engine
    listen(engine, "connect", lambda connection, _record: [connection.execute(pragma) for pragma in pragmas])
    await database._engine.dispose()
    with pytest.raises(Unavailable):
        async with database.transaction():
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError(failure))
    async with database.transaction() as reading:
        await reading.execute(select(things))
        pragmas.clear()
        await database.check()
    for _ in range(3):
        async with database.writing() as connection:
            await connection.execute(insert(things).values(name="hat"))
    await database.close()


async def test_a_call_cancelled_at_any_moment_leaves_no_thread(
    url: str, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def slowly(*arguments: Any, **options: Any) -> sqlite3.Connection:
        time.sleep(0.01)  # so that there are moments
        return connect(*arguments, **options)

    monkeypatch.setattr("aiosqlite.core.sqlite3.connect", slowly)
    database = Database(url, schema, timeout_s=5)
    await database.check()
    for moment in range(100):
        await database._engine.dispose()
        call = asyncio.create_task(count(database))
        await asyncio.sleep(moment / 4000)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await database.close()
    async with asyncio.timeout(10):
        await no_database_thread()


async def test_a_connection_in_use_is_given_back_before_all_are_closed(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=5)
    await database.check()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async with database.transaction():
            begun.set()
            await go_on.wait()

    reading = asyncio.create_task(read())
    await begun.wait()
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0.02)
    go_on.set()
    await asyncio.gather(reading, closing)
    async with asyncio.timeout(10):
        await no_database_thread()


async def test_a_write_that_was_cancelled_holds_no_lock(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=5)
    await database.check()
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT count(*) FROM n"
    begun = asyncio.Event()

    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(insert(things).values(name="hat"))
            begun.set()
            await connection.execute(text(slow))

    writing = asyncio.create_task(write())
    await begun.wait()
    await asyncio.sleep(0.02)
    writing.cancel()
    [cancelled] = await asyncio.gather(writing, return_exceptions=True)  # its traceback knows the cursor
    assert isinstance(cancelled, asyncio.CancelledError)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert await count(database) == 0
    await database.close()


async def test_an_exception_rolls_back(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=5)

    async def write_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(name="hat"))
            raise KeyError

    with pytest.raises(KeyError):
        await write_and_fail()
    assert await count(database) == 0
    await database.close()


async def test_writers_in_several_processes_take_turns(url: str, schema: Schema) -> None:
    databases = [Database(url, schema, timeout_s=20) for _ in range(3)]

    async def write(database: Database) -> None:
        for _ in range(10):
            async with database.transaction() as connection:
                await connection.execute(insert(things).values(name=str(os.getpid())[:10]))

    await asyncio.gather(*(write(database) for database in databases))
    assert await count(databases[0]) == 30
    async with databases[0].transaction() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
    for database in databases:
        await database.close()


async def test_a_new_file_that_another_is_writing_is_waited_for(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=20)
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # SQLite does not wait for this one when it changes to WAL
        waiting = asyncio.create_task(count(database))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        assert await waiting == 0
    await database.close()


async def test_an_unreachable_database_is_unavailable(schema: Schema) -> None:
    database = Database("postgresql://u:p@127.0.0.1:1/db", schema, timeout_s=1)
    with pytest.raises(Unavailable, match="database"):
        await database.check()
    await database.close()


async def test_a_database_locked_for_too_long_is_unavailable(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=1.0)
    assert await count(database) == 0
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="database"):
            async with database.transaction() as connection:
                await connection.execute(insert(things).values(name="hat"))
    assert await count(database) == 0
    await database.close()


async def test_writers_that_queue_do_not_wait_for_a_lock_one_after_the_other(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=0.5)
    assert await count(database) == 0

    async def write() -> float:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="locked by another writer"):
            async with database.writing() as connection:
                await connection.execute(insert(things).values(name="hat"))
        return time.monotonic() - begun

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert max(await asyncio.gather(*(write() for _ in range(6)))) < 2
    async with database.writing() as connection:
        await connection.execute(insert(things).values(name="hat"))
    assert await count(database) == 1
    await database.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [("mysql+pymysql://localhost/db", "sqlite, postgresql"), ("sqlite://", "FILE"), ("sqlite:///:memory:", "FILE")],
)
def test_a_database_of_no_use_is_refused(url: str, says: str, schema: Schema) -> None:
    with pytest.raises(ValueError, match=says):
        Database(url, schema, timeout_s=1)


async def test_a_database_that_comes_back_empty_gets_its_tables_again(any_url: str, schema: Schema) -> None:
    database = Database(any_url, schema, timeout_s=5)
    await database.check()
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE things"))
        await connection.execute(text(f"DROP TABLE {schema.version_table}"))
    with pytest.raises(Unavailable):
        await database.check()
    await database.check()
    assert await count(database) == 0
    await database.close()


async def test_a_database_that_lost_a_table_is_never_served_as_if_it_were_empty(any_url: str, schema: Schema) -> None:
    database = Database(any_url, schema, timeout_s=5)
    await database.check()
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE things"))
    for check in (database.check, database.check_reads) * 2:
        with pytest.raises(Unavailable, match="lost our tables"):
            await check()
    await database.close()


async def test_an_older_database_is_refused_where_services_do_not_migrate(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=5, migrate=False)
    for check in (database.check, database.check_reads):
        with pytest.raises(Unavailable, match="services.migrations upgrade --service test"):
            await check()
    migrations.upgrade(open_engine(url, timeout_s=5), schema)
    await database.check()
    assert await count(database) == 0
    await database.close()


async def test_a_cancelled_call_leaves_no_half_made_schema(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=20)
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(count(database))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("COMMIT")
    assert await count(database) == 0
    await database.close()


async def test_a_check_writes_and_commits(any_url: str, schema: Schema) -> None:
    database = Database(any_url, schema, timeout_s=5)
    said: list[str] = []
    listen(database._engine.sync_engine, "before_cursor_execute", lambda *told: said.append(told[2].partition(" ")[0]))
    listen(database._engine.sync_engine, "commit", lambda _: said.append("COMMIT"))
    await database.check()
    assert said.index("UPDATE") < said.index("COMMIT")
    said.clear()
    await database.check_reads()
    assert "UPDATE" not in said
    await database.close()


async def test_checks_of_replicas_at_once_do_not_wait_for_each_other(any_url: str, schema: Schema) -> None:
    replicas = [Database(any_url, schema, timeout_s=20) for _ in range(3)]
    await asyncio.gather(*(replica.check() for replica in replicas * 5))
    for replica in replicas:
        await replica.close()


async def test_a_database_locked_by_another_fails_its_check_before_calls_fail(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=8)
    await database.check()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="locked by another writer"):
            await database.check()
        assert time.monotonic() - begun < 7
        await database.check_reads()
    await database.check()
    async with database.transaction() as connection:  # calls wait as long as they did
        assert (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one() == 8000
    await database.close()


async def test_a_row_locked_in_postgresql_fails_no_check(postgres: Postgres, schema: Schema) -> None:
    """A migration holds the row of the revision until it ends; until then the schema is the one we know."""
    url = postgres.new_database()
    database = Database(url, schema, timeout_s=5)
    await database.check()
    with open_engine(url, timeout_s=5).begin() as other:
        other.execute(text("UPDATE alembic_version_test SET version_num = version_num"))
        await database.check()
    await database.close()


async def test_a_database_that_takes_no_writes_can_be_read(any_url: str, schema: Schema) -> None:
    await asyncio.to_thread(migrations.upgrade, open_engine(any_url, timeout_s=5), schema)
    if any_url.startswith("postgresql"):  # as a replica or a full server would be
        any_url = any_url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
    database = Database(any_url, schema, timeout_s=5)
    if any_url.startswith("sqlite"):

        def make_read_only(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA query_only=ON")

        listen(database._engine.sync_engine, "connect", make_read_only)
    with pytest.raises(Unavailable, match="takes no writes"):
        await database.check()
    await database.check_reads()
    assert await count(database) == 0
    await database.close()


async def test_a_full_disk_fails_the_check(url: str, schema: Schema) -> None:
    database = Database(url, schema, timeout_s=5)
    await database.check()
    with files_of_at_most(1000):
        with pytest.raises(Unavailable, match="database"):
            await database.check()
        await database.check_reads()
    await database.check()
    await database.close()


async def test_a_disk_that_fills_is_told_of_before_it_fails_the_check(
    url: str, schema: Schema, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(url, schema, timeout_s=5)
    free = iter([2**30, 200 * 2**20, 2 * 2**20, 1000, 2**30])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, next(free)))
    caplog.set_level("INFO", "services.runtime.database")
    for _ in range(3):
        await database.check()
    with pytest.raises(Unavailable, match="full disk"):
        await database.check()
    await database.check()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the database's disk has 200 MiB left"),
        ("INFO", "the database's disk has 1024 MiB left"),
    ]
    await database.close()


async def test_a_folder_that_cannot_be_made_is_unavailable_until_it_can(
    url: str, schema: Schema, tmp_path: Path
) -> None:
    (tmp_path / "folder").write_bytes(b"in the way")
    database = Database(url, schema, timeout_s=5)
    with pytest.raises(Unavailable, match="database"):
        await database.check()
    (tmp_path / "folder").unlink()
    await database.check()
    await database.close()


async def test_a_damaged_file_is_unavailable_and_says_so(url: str, schema: Schema) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 1000)
    database = Database(url, schema, timeout_s=5)
    with pytest.raises(Unavailable, match="is damaged"):
        await database.check()
    await database.close()


@pytest.mark.parametrize("first", ["a check", "a write", "within a write"])
async def test_a_file_that_was_deleted_is_not_written_any_longer(url: str, schema: Schema, first: str) -> None:
    database = Database(url, schema, timeout_s=5)
    assert await count(database) == 0

    def delete() -> None:
        for file in Path(url.removeprefix("sqlite:///")).parent.iterdir():
            file.unlink()

    async def write(meanwhile: Callable[[], None]) -> None:
        async with database.writing() as connection:
            await connection.execute(insert(things).values(name="lost"))
            meanwhile()

    if first == "within a write":
        with pytest.raises(Unavailable, match="lost its file"):
            await write(delete)
    else:
        delete()
    with pytest.raises(Unavailable, match="lost its file"):
        await (write(lambda: None) if first == "a write" else database.check_reads())
    async with database.transaction() as connection:
        await connection.execute(insert(things).values(name="hat"))
    await database.check()
    again = Database(url, schema, timeout_s=5)
    assert await count(again) == 1
    for each in (database, again):
        await each.close()


async def test_a_file_of_the_same_number_on_another_disk_is_another(
    url: str, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, stat = Database(url, schema, timeout_s=5), Path.stat
    assert await count(database) == 0

    def of_another_disk(path: Path, **options: Any) -> os.stat_result:
        found = list(stat(path, **options))
        found[2] += 1  # st_dev
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", of_another_disk)
    with pytest.raises(Unavailable, match="lost its file"):
        await database.check()
    await database.check()
    await database.close()


async def test_what_is_acknowledged_is_on_disk(url: str, schema: Schema) -> None:
    """SQLite's WAL is only synced at each commit with synchronous=FULL (2)."""
    database = Database(url, schema, timeout_s=5)
    async with database.transaction() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2
    await database.close()
