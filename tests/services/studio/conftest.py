"""The studio's stores on a database of a test's own, SQLite and PostgreSQL in turn where it is installed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.runtime.database import Database
from services.studio.adapters.tables import SCHEMA
from tests.services.items.market import Market
from tests.services.running import database_threads_ended
from tests.services.studio.selling import Street


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, SCHEMA, timeout_s=5.0)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    market = Market(f"sqlite:///{tmp_path / 'items.sqlite'}")
    database = Database(f"sqlite:///{tmp_path / 'studio.sqlite'}", SCHEMA, timeout_s=20)
    yield Street(market, database, tmp_path / "token")
    await market.database.close()
    await database.close()
    await database_threads_ended()
