"""A request id stands for the first feedback written under it, also among writers at once and after a restart."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from services.feedback.adapters.records import METADATA, SqlRecords
from services.feedback.picks import Feedback
from services.feedback.ports import Recorded
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from tests.services.running import database_threads_ended

FEEDBACK = Feedback(
    event_id="e1",
    request_id="r1",
    group_id="g",
    user_id="shop ☂",
    release=2**40,
    selected_image_ids=("b",),
    unselected_image_ids=("a", "c"),
    create_time_us=1_767_323_045_678_901,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.sqlite"
    fresh: str = request.getfixturevalue("postgres").new_database()
    return fresh


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[SqlRecords]:
    database = Database(url, METADATA, timeout_s=5)
    yield SqlRecords(database)
    await database.close()


async def test_what_was_written_is_pending_until_it_is_marked(store: SqlRecords) -> None:
    assert await store.find("r1") is None
    assert await store.add_pending(FEEDBACK) == Recorded(FEEDBACK, published=False)
    assert await store.find("r1") == Recorded(FEEDBACK, published=False)
    await store.mark_published("r1")
    assert await store.find("r1") == Recorded(FEEDBACK, published=True)


async def test_the_first_to_write_wins_and_the_second_learns_what_stands(store: SqlRecords) -> None:
    await store.add_pending(FEEDBACK)
    other = replace(FEEDBACK, event_id="e2", selected_image_ids=("a",))
    assert (await store.add_pending(other)).feedback == FEEDBACK


async def test_writers_at_once_agree_on_one_event(store: SqlRecords) -> None:
    writers = [store.add_pending(replace(FEEDBACK, event_id=f"e{i}")) for i in range(8)]
    assert len({recorded.feedback.event_id for recorded in await asyncio.gather(*writers)}) == 1


async def test_marking_one_leaves_others_pending(store: SqlRecords) -> None:
    await store.add_pending(FEEDBACK)
    await store.add_pending(replace(FEEDBACK, request_id="r2", event_id="e2"))
    await store.mark_published("r1")
    recorded = await store.find("r2")
    assert recorded is not None and not recorded.published


async def test_a_pending_row_outlives_the_process(url: str) -> None:
    for _ in range(2):
        database = Database(url, METADATA, timeout_s=5)
        assert await SqlRecords(database).add_pending(FEEDBACK) == Recorded(FEEDBACK, published=False)
        await database.close()


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").mkdir()
    database = Database(f"sqlite:///{tmp_path}/feedback.sqlite", METADATA, timeout_s=2)
    with pytest.raises(Unavailable):
        await SqlRecords(database).find("r1")
    await database.close()
    await database_threads_ended()
