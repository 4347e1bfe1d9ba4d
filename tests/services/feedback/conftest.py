"""The desk that most tests of the service use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.services.feedback.desk import Desk, opened


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as desk:
        yield desk
