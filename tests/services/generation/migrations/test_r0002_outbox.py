"""Groups of before the outbox: those that wait for Kafka owe their events, in the order in which they were made."""

from collections.abc import Iterator
from uuid import UUID, uuid4, uuid5

import pytest
from perfusion.v1.events_pb2 import GroupGenerated
from sqlalchemy import Engine, MetaData, select

from services.generation.adapters.groups import SqlGroups
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import OUTBOX, SCHEMA
from services.runtime.clock import now_us
from services.runtime.database import Database, open_engine
from services.runtime.leases import Watch
from services.runtime.migrations import downgrade, upgrade
from services.runtime.outbox import Outbox
from services.runtime.pages import Page
from tests.services.running import database_threads_ended

GROUP = {
    "prompt": "dress",
    "negative_prompt": "",
    "release": 1,
    "num_steps": 4,
    "guidance_scale": 4.0,
    "adapter_scale": 1.0,
    "sampler": "ddim",
    "seed": 7,
    "strength": None,
    "reference_image_sha256": "",
    "refused_wishes": [],
}


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url, timeout_s=20)
    yield engine
    engine.dispose()


def event(group_id: str) -> bytes:
    return GroupGenerated(group_id=group_id, user_id="ada").SerializeToString()


def add(engine: Engine, user_id: str, time_us: int, state: str) -> str:
    """A round as it was kept before, and its group unless it is running."""
    tables = MetaData()
    tables.reflect(engine)
    group_id, request_id = str(uuid4()), str(uuid4())
    with engine.begin() as connection:
        connection.execute(
            tables.tables["rounds"].insert(),
            {"request_id": request_id, "fingerprint": "f", "group_id": group_id, "release": 1, "state": state}
            | {"owner": "" if state == "done" else "o", "lease_until_us": 5}
            | {"event": None if state == "running" else event(group_id)},
        )
        if state != "running":
            group = {"group_id": group_id, "request_id": request_id, "user_id": user_id, "create_time_us": time_us}
            connection.execute(tables.tables["groups"].insert(), GROUP | group)
    return group_id


def states(engine: Engine) -> dict[str, tuple[str, bytes | None]]:
    tables = MetaData()
    tables.reflect(engine)
    rounds = tables.tables["rounds"]
    with engine.connect() as connection:
        return {row.group_id: (row.state, row.event) for row in connection.execute(select(rounds))}


async def test_what_waited_for_kafka_is_owed_and_nothing_else(engine: Engine, url: str) -> None:
    upgrade(engine, SCHEMA, to="0001")
    later, done, first = (
        add(engine, "ada", 30, "stored"),
        add(engine, "ada", 20, "done"),
        add(engine, "ada", 10, "stored"),
    )
    running, others = add(engine, "ada", 40, "running"), add(engine, "bob", 15, "done")
    upgrade(engine, SCHEMA)

    database = Database(url, SCHEMA, timeout_s=20)
    outbox = Outbox(database, OUTBOX, now_us, Watch(10.0))
    groups = SqlGroups(database, SqlRoundClaims(database, Watch(10.0)), outbox)
    owed = await outbox.claim(["ada"], "token")
    assert [(each.event_id, each.value) for each in owed] == [
        (str(uuid5(UUID(group_id), "GroupGenerated")), event(group_id)) for group_id in (first, later)
    ]
    assert await outbox.claim(["bob"], "token") == []
    assert [group.group_id for group in (await groups.page("ada", Page(5, None)))[0]] == [done]
    await outbox.settle("token", [each.event_id for each in owed], {}, ["ada"])
    assert [group.group_id for group in (await groups.page("ada", Page(5, None)))[0]] == [later, done, first]
    assert [group.group_id for group in (await groups.page("bob", Page(5, None)))[0]] == [others]
    async with database.transaction() as connection:
        assert await outbox.next_sequence(connection, "ada") == 4  # places go on after those that were given
    await database.close()
    await database_threads_ended()
    assert {group_id for group_id, (state, _) in states(engine).items() if state == "running"} == {running}


def test_what_is_owed_waits_for_kafka_again_after_a_downgrade(engine: Engine) -> None:
    upgrade(engine, SCHEMA, to="0001")
    stored, done = add(engine, "ada", 10, "stored"), add(engine, "ada", 20, "done")
    before = states(engine)
    upgrade(engine, SCHEMA)
    assert {state for state, _ in states(engine).values()} == {"done"}
    downgrade(engine, SCHEMA, "0001")
    assert states(engine) == before
    assert (before[stored][0], before[done][0]) == ("stored", "done")
