"""Feedback in SQL: one row a request id, written once, then marked when Kafka has it.

Knows the table. Does not know which picks are valid, when an event is sent, or which database it is.
"""

from dataclasses import asdict
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, MetaData, String, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.feedback.picks import Feedback
from services.feedback.ports import Recorded, Records
from services.runtime.database import Database, insert_into

METADATA = MetaData()
_FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("group_id", String(36), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("release", BigInteger, nullable=False),
    Column("selected_image_ids", JSON, nullable=False),
    Column("unselected_image_ids", JSON, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),  # microseconds since 1970 UTC
    Column("published", Boolean, nullable=False),  # whether Kafka has acknowledged the event
)


class SqlRecords(Records):
    """Records in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, request_id: str) -> Recorded | None:
        async with self._database.transaction() as connection:
            return await _find(connection, request_id)

    async def add_pending(self, feedback: Feedback) -> Recorded:
        row = asdict(feedback) | {"published": False}
        async with self._database.transaction() as connection:
            insert = insert_into(connection, _FEEDBACK).values(row)
            await connection.execute(insert.on_conflict_do_nothing(index_elements=["request_id"]))
            recorded = await _find(connection, feedback.request_id)
        assert recorded is not None, "the row was just written, or stood in the way"
        return recorded

    async def mark_published(self, request_id: str) -> None:
        async with self._database.transaction() as connection:
            mine = _FEEDBACK.c.request_id == request_id
            await connection.execute(update(_FEEDBACK).where(mine).values(published=True))


async def _find(connection: AsyncConnection, request_id: str) -> Recorded | None:
    query = select(_FEEDBACK).where(_FEEDBACK.c.request_id == request_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Recorded(_feedback(row), row.published)


def _feedback(row: Any) -> Feedback:
    return Feedback(
        event_id=row.event_id,
        request_id=row.request_id,
        group_id=row.group_id,
        user_id=row.user_id,
        release=row.release,
        selected_image_ids=tuple(row.selected_image_ids),
        unselected_image_ids=tuple(row.unselected_image_ids),
        create_time_us=row.create_time_us,
    )
