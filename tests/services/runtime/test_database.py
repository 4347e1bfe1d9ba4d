"""A service's database: tables on first contact, transactions, and what is said when it does not answer."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, text

from services.runtime.database import Database
from services.runtime.errors import Unavailable

METADATA = MetaData()
things = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("name", String(10)))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/folder/made/on/demand.sqlite"


async def count(database: Database) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(select(func.count()).select_from(things))).scalar_one())


async def test_tables_are_made_on_first_contact_and_kept(url: str) -> None:
    for expected in (0, 1):
        database = Database(url, METADATA, timeout_s=5)
        assert await count(database) == expected
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(name="hat"))
        await database.close()


async def test_an_exception_rolls_back(url: str) -> None:
    database = Database(url, METADATA, timeout_s=5)

    async def write_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(name="hat"))
            raise KeyError

    with pytest.raises(KeyError):
        await write_and_fail()
    assert await count(database) == 0
    await database.close()


async def test_writers_in_several_processes_take_turns(url: str) -> None:
    databases = [Database(url, METADATA, timeout_s=20) for _ in range(3)]

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


async def test_a_new_file_that_another_is_writing_is_waited_for(url: str) -> None:
    database = Database(url, METADATA, timeout_s=20)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # SQLite does not wait for this one when it changes to WAL
        waiting = asyncio.create_task(count(database))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        assert await waiting == 0
    await database.close()


async def test_an_unreachable_database_is_unavailable() -> None:
    database = Database("postgresql://u:p@127.0.0.1:1/db", METADATA, timeout_s=1)
    with pytest.raises(Unavailable, match="database"):
        await database.check()
    await database.close()


async def test_a_database_locked_for_too_long_is_unavailable(url: str) -> None:
    database = Database(url, METADATA, timeout_s=1.0)
    assert await count(database) == 0
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="database"):
            async with database.transaction() as connection:
                await connection.execute(insert(things).values(name="hat"))
    assert await count(database) == 0
    await database.close()


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="sqlite, postgresql"):
        Database("mysql+pymysql://localhost/db", METADATA, timeout_s=1)


async def test_tables_that_were_lost_are_made_again(url: str) -> None:
    database = Database(url, METADATA, timeout_s=5)
    await database.check()
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE things"))
    with pytest.raises(Unavailable):
        await database.check()
    await database.check()
    assert await count(database) == 0
    await database.close()
