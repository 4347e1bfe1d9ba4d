"""The studio's stores on a database of a test's own, SQLite and PostgreSQL in turn where it is installed."""

from collections.abc import AsyncIterator

import pytest

from services.runtime.database import Database
from services.studio.adapters.tables import SCHEMA


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, SCHEMA, timeout_s=5.0)
    yield opened
    await opened.close()
