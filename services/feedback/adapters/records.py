"""Feedback in SQL: one row a request id, written once, with the event it owes.

Knows which pick of a group counts: the one with the greatest number. Does not know which picks are valid, when an event
is sent, or which database it is.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.tracing import traceparent
from services.feedback.adapters.tables import OUTBOX, picks
from services.feedback.messages import event_message
from services.feedback.picks import Feedback
from services.feedback.ports import Picks, Recorded, Records
from services.runtime.batches import Batches
from services.runtime.database import Database, insert_into
from services.runtime.outbox import Outbox, Owed
from services.runtime.pages import Page

_MOST = 500  # picks that one transaction finds or stores


class SqlRecords(Records):
    """Records in one table; `outbox` is of the same database and shares its transactions."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._finding: Batches[str, Feedback | None] = Batches(self._find, most=_MOST)
        self._adding: Batches[tuple[Feedback, str | None], Feedback] = Batches(self._add, most=_MOST)

    async def find(self, request_ids: Sequence[str]) -> Sequence[Feedback | None]:
        return await self._finding.run(request_ids)

    async def add(self, feedback: Sequence[Feedback]) -> Sequence[Feedback]:
        trace = traceparent()
        return await self._adding.run([(each, trace) for each in feedback])

    async def _find(self, request_ids: Sequence[str]) -> Sequence[Feedback | None]:
        async with self._database.transaction() as connection:
            found = await _find(connection, request_ids)
        return [found.get(request_id) for request_id in request_ids]

    async def _add(self, given: Sequence[tuple[Feedback, str | None]]) -> Sequence[Feedback]:
        """In one transaction, whose synced commit costs the same for one pick as for hundreds."""
        async with self._database.writing() as connection:
            counts = Counter(feedback.user_id for feedback, _ in given)
            first = await self._outbox.next_sequences(connection, counts)
            places = {user_id: count(place) for user_id, place in first.items()}
            placed = [(replace(feedback, sequence=next(places[feedback.user_id])), trace) for feedback, trace in given]
            insert = insert_into(connection, picks).on_conflict_do_nothing(index_elements=["request_id"])
            await connection.execute(insert, [vars(feedback) for feedback, _ in placed])
            query = select(picks.c.request_id, picks.c.event_id, picks.c.sequence)
            query = query.where(picks.c.request_id.in_([feedback.request_id for feedback, _ in placed]))
            stands = {row.request_id: (row.event_id, row.sequence) for row in await connection.execute(query)}
            new = [(each, trace) for each, trace in placed if stands[each.request_id] == (each.event_id, each.sequence)]
            await self._outbox.add_all(connection, [self._owed(feedback, trace) for feedback, trace in new])
            recorded = {feedback.request_id: feedback for feedback, _ in new}
            if others := stands.keys() - recorded.keys():
                recorded |= await _find(connection, others)
        return [recorded[feedback.request_id] for feedback, _ in given]

    def _owed(self, feedback: Feedback, trace: str | None) -> Owed:
        event = event_message(feedback)
        return self._outbox.owed(feedback.user_id, feedback.sequence, feedback.event_id, event, trace)

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


async def _find(connection: AsyncConnection, request_ids: Collection[str]) -> dict[str, Feedback]:
    query = select(picks).where(picks.c.request_id.in_(request_ids))
    return {row.request_id: _feedback(row) for row in await connection.execute(query)}


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
