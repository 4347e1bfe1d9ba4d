"""Groups from before arms were kept: nothing is made up for them, and a service of before may go on writing."""

from perfusion.v1 import group_pb2
from sqlalchemy import MetaData

from services.generation.adapters.groups import SqlGroups
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import OUTBOX, SCHEMA
from services.generation.messages import group_message
from services.generation.orders import Unread
from services.runtime.clock import now_us
from services.runtime.database import Database, open_engine
from services.runtime.leases import Watch
from services.runtime.migrations import upgrade
from services.runtime.outbox import Outbox
from tests.services.generation.migrations.test_r0002_outbox import GROUP
from tests.services.running import database_threads_ended


async def test_what_was_not_kept_is_said_to_be_unknown(url: str) -> None:
    engine = open_engine(url, timeout_s=20)
    upgrade(engine, SCHEMA, to="0003")
    tables = MetaData()
    tables.reflect(engine)
    upgrade(engine, SCHEMA)
    candidate = {"rank": 1, "image_id": "i", "uri": "u", "seed": 7, "score": 0.5, "wishes": ["sequins"]}
    with engine.begin() as connection:  # as a service of the revision before writes
        round_ = {"request_id": "r", "fingerprint": "f", "group_id": "g", "release": 1, "state": "done"}
        connection.execute(tables.tables["rounds"].insert(), round_ | {"owner": "", "beats": 0, "event": None})
        group = {"group_id": "g", "request_id": "r", "user_id": "ada", "sequence": 1, "create_time_us": 1}
        connection.execute(tables.tables["groups"].insert(), GROUP | group)
        connection.execute(tables.tables["candidates"].insert(), candidate | {"group_id": "g"})
    engine.dispose()

    database = Database(url, SCHEMA, timeout_s=20)
    groups = SqlGroups(database, SqlRoundClaims(database, Watch(10.0)), Outbox(database, OUTBOX, now_us, Watch(10.0)))
    found = await groups.get("g")
    await database.close()
    await database_threads_ended()
    assert found is not None
    assert (found.arm, found.propensity, found.trial_release, found.settings.variety) == (None, None, None, None)
    shown = group_message(found, Unread())
    assert shown.assignment == group_pb2.Assignment(arm=group_pb2.ARM_UNSPECIFIED, propensity=0)
    assert (shown.settings.variety, shown.candidates[0].release, shown.release) == (0, 0, 1)
