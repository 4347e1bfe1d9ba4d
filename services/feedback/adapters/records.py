"""Feedback in SQL: one row a request id, written once, with the event it owes.

Knows which pick of a group counts: the one with the greatest number. Does not know which picks are valid, when an event
is sent, or which database it is.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.feedback.adapters.tables import OUTBOX, picks
from services.feedback.messages import event_message
from services.feedback.picks import Feedback
from services.feedback.ports import Picks, Recorded, Records
from services.runtime.database import Database, insert_into
from services.runtime.outbox import Outbox
from services.runtime.pages import Page


class SqlRecords(Records):
    """Records in one table; `outbox` is of the same database and shares its transactions."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def find(self, request_id: str) -> Feedback | None:
        async with self._database.transaction() as connection:
            return await _find(connection, request_id)

    async def add(self, feedback: Feedback) -> Feedback:
        async with self._database.transaction() as connection:
            placed = replace(feedback, sequence=await self._outbox.next_sequence(connection, feedback.user_id))
            insert = insert_into(connection, picks).values(asdict(placed))
            insert = insert.on_conflict_do_nothing(index_elements=["request_id"])
            if (await connection.execute(insert.returning(picks.c.request_id))).first() is not None:
                event = event_message(placed)
                await self._outbox.add(connection, placed.user_id, placed.sequence, placed.event_id, event)
            recorded = await _find(connection, feedback.request_id)
        assert recorded is not None, "the row was just written, or stood in the way"
        return recorded

    async def counting(self, group_id: str) -> Recorded | None:
        query = _acknowledged().where(picks.c.group_id == group_id).order_by(picks.c.sequence.desc()).limit(1)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _recorded(row)

    async def page(self, asked: Picks, page: Page) -> tuple[Sequence[Recorded], int | None]:
        query = _acknowledged().where(picks.c.user_id == asked.user_id)
        if asked.group_id:
            query = query.where(picks.c.group_id == asked.group_id)
        if not asked.show_superseded:
            query = query.where(~_superseded())
        if page.after is not None:
            query = query.where(picks.c.sequence < page.after)
        query = query.order_by(picks.c.sequence.desc()).limit(page.size + 1)
        async with self._database.transaction() as connection:
            found = [_recorded(row) for row in await connection.execute(query)]
        shown = found[: page.size]
        return shown, shown[-1].feedback.sequence if len(found) > page.size else None


def _acknowledged() -> Select[Any]:
    """Picks whose events Kafka has, and whether each is superseded by another of them."""
    return select(picks, _superseded().label("superseded")).where(~_owes(picks))


def _superseded() -> ColumnElement[bool]:
    later = picks.alias()
    same_group = (later.c.group_id == picks.c.group_id) & (later.c.sequence > picks.c.sequence)
    return exists().where(same_group, ~_owes(later))


def _owes(of: FromClause) -> ColumnElement[bool]:
    return OUTBOX.owes(of.c.user_id, of.c.sequence)


async def _find(connection: AsyncConnection, request_id: str) -> Feedback | None:
    query = select(picks).where(picks.c.request_id == request_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _feedback(row)


def _recorded(row: Any) -> Recorded:
    return Recorded(_feedback(row), bool(row.superseded))


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
        sequence=row.sequence,
    )
