"""Picks of before the outbox: those that wait for Kafka owe their events, and the later of two picks still counts."""

from collections.abc import Iterator

import pytest
from perfusion.v1.events_pb2 import FeedbackGiven
from sqlalchemy import Engine, MetaData, select

from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.feedback.messages import event_message
from services.runtime.clock import now_us
from services.runtime.database import Database, open_engine
from services.runtime.leases import Watch
from services.runtime.migrations import downgrade, upgrade
from services.runtime.outbox import Outbox
from tests.services.running import database_threads_ended


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database of the first revision with three picks of one group, of which the last one was not published."""
    engine = open_engine(url, timeout_s=20)
    upgrade(engine, SCHEMA, to="0001")
    with engine.begin() as connection:
        for n, published in ((2, True), (3, False), (1, True)):
            row = {"request_id": f"r{n}", "event_id": f"e{n}", "group_id": "g", "user_id": "ada", "release": 7}
            picked = {"selected_image_ids": [f"i{n}"], "unselected_image_ids": ["i"]}
            connection.execute(_feedback(engine).insert(), row | picked | {"create_time_us": n, "published": published})
    yield engine
    engine.dispose()


def _feedback(engine: Engine):  # type: ignore[no-untyped-def]
    tables = MetaData()
    tables.reflect(engine)
    return tables.tables["feedback"]


async def test_what_was_not_published_is_owed_with_the_message_it_would_have_had(engine: Engine, url: str) -> None:
    upgrade(engine, SCHEMA)
    database = Database(url, SCHEMA, timeout_s=20)
    outbox = Outbox(database, OUTBOX, now_us, Watch(10.0))
    records = SqlRecords(database, outbox)
    [owed] = await outbox.claim(["ada"], "token")
    [feedback] = await records.find(["r3"])
    assert feedback is not None and feedback.sequence == 3
    assert owed.event_id == "e3" and FeedbackGiven.FromString(owed.value) == event_message(feedback)
    before = await records.counting("g")
    await outbox.settle("token", [owed.event_id], {}, ["ada"])
    after = await records.counting("g")
    assert before is not None and before.feedback.event_id == "e2"
    assert after is not None and after.feedback.event_id == "e3"
    await database.close()
    await database_threads_ended()


def test_what_is_owed_is_unpublished_again_after_a_downgrade(engine: Engine) -> None:
    upgrade(engine, SCHEMA)
    downgrade(engine, SCHEMA, "0001")
    feedback = _feedback(engine)
    with engine.connect() as connection:
        rows = connection.execute(select(feedback.c.event_id, feedback.c.published)).all()
    assert {event_id: bool(published) for event_id, published in rows} == {"e1": True, "e2": True, "e3": False}
