"""A request id stands for the first feedback written under it, also among writers at once and after a restart; of a
group's picks, the one counts that the database counted last."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.feedback.picks import Feedback
from services.feedback.ports import Picks, Recorded
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.pages import Page
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
    sequence=1,
)


class Store(SqlRecords):
    """Records, and Kafka's word that it has their events."""

    def __init__(self, database: Database) -> None:
        self.outbox = Outbox(database, OUTBOX, lambda: 0, Watch(10.0))
        super().__init__(database, self.outbox)

    async def acknowledge(self, user_id: str, most: int = 100) -> None:
        owed = await self.outbox.claim([user_id], "test")
        await self.outbox.settle("test", [event.event_id for event in owed][:most], {}, [user_id])


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    database = Database(url, SCHEMA, timeout_s=5)
    yield Store(database)
    await database.close()


async def test_what_was_written_owes_its_event_until_kafka_has_it(store: Store) -> None:
    assert await store.find(["r1"]) == [None]
    assert await store.add([FEEDBACK]) == [FEEDBACK]
    assert await store.find(["r1"]) == [FEEDBACK]
    assert await store.outbox.find(["e1"]) == {"e1": ""} and await store.counting("g") is None
    await store.acknowledge(FEEDBACK.user_id)
    assert await store.outbox.find(["e1"]) == {}
    assert await store.counting("g") == Recorded(FEEDBACK, superseded=False)


async def test_the_first_to_write_wins_and_the_second_learns_what_stands(store: Store) -> None:
    await store.add([FEEDBACK])
    other = replace(FEEDBACK, event_id="e2", selected_image_ids=("a",))
    assert await store.add([other]) == [FEEDBACK]
    assert await store.outbox.find(["e2"]) == {}  # and owes nothing


async def test_writers_at_once_agree_on_one_event(store: Store) -> None:
    written = await asyncio.gather(*(store.add([replace(FEEDBACK, event_id=f"e{i}")]) for i in range(8)))
    assert len({feedback.event_id for [feedback] in written}) == 1
    assert (await store.outbox.backlog()).owed == 1


async def test_writers_at_once_get_places_of_their_own(store: Store) -> None:
    picks = [replace(FEEDBACK, request_id=f"r{i}", event_id=f"e{i}") for i in range(8)]
    written = await asyncio.gather(*(store.add([pick]) for pick in picks))
    assert sorted(feedback.sequence for [feedback] in written) == list(range(1, 9))


async def test_the_pick_recorded_later_counts_though_its_clock_says_earlier(store: Store) -> None:
    hour_us = 3_600_000_000
    for i, jump in enumerate([0, 7, -9, 2]):
        await store.add(
            [
                replace(
                    FEEDBACK,
                    request_id=f"r{i}",
                    event_id=f"e{i}",
                    create_time_us=FEEDBACK.create_time_us + jump * hour_us,
                )
            ]
        )
    await store.acknowledge(FEEDBACK.user_id, most=3)
    counting = await store.counting("g")
    assert counting is not None and counting.feedback.event_id == "e2"  # the last one that Kafka has
    everything, _ = await store.page(Picks(FEEDBACK.user_id, "", show_superseded=True), Page(10, None))
    shown = [(each.feedback.event_id, each.superseded) for each in everything]
    assert shown == [("e2", False), ("e1", True), ("e0", True)]


async def test_a_page_goes_on_after_the_last_one(store: Store) -> None:
    for i in range(5):
        await store.add([replace(FEEDBACK, request_id=f"r{i}", event_id=f"e{i}", group_id=f"g{i}")])
    await store.acknowledge(FEEDBACK.user_id)
    picks = Picks(FEEDBACK.user_id, "", show_superseded=False)
    first, last = await store.page(picks, Page(3, None))
    rest, end = await store.page(picks, Page(3, last))
    assert [each.feedback.group_id for each in [*first, *rest]] == ["g4", "g3", "g2", "g1", "g0"]
    assert end is None
    of_one, _ = await store.page(replace(picks, group_id="g2"), Page(3, None))
    assert [each.feedback.event_id for each in of_one] == ["e2"]
    assert await store.page(replace(picks, user_id="another"), Page(3, None)) == ([], None)


async def test_a_pending_row_outlives_the_process(url: str) -> None:
    for _ in range(2):
        database = Database(url, SCHEMA, timeout_s=5)
        store = Store(database)
        assert await store.add([FEEDBACK]) == [FEEDBACK]
        assert await store.outbox.find(["e1"]) == {"e1": ""}
        await database.close()


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").mkdir()
    database = Database(f"sqlite:///{tmp_path}/feedback.sqlite", SCHEMA, timeout_s=2)
    with pytest.raises(Unavailable):
        await Store(database).find(["r1"])
    await database.close()
    await database_threads_ended()
