"""Followed rounds in SQL, one row each. It knows queries; not what a state means."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from perfusion.v1.generation_service_pb2 import GenerateProgress, GenerateRequest
from sqlalchemy import delete, func, select, update

from services.runtime.database import Database, insert_into
from services.runtime.errors import ResourceExhausted
from services.studio.adapters.tables import rounds
from services.studio.following import Asked, Followed, Running, State
from services.studio.ports import FollowedRounds


class SqlRounds(FollowedRounds):
    """A holder's writes name the holder: what was taken over, it writes no more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, asked: Asked, state: State, holder: str, most: int) -> tuple[Followed, bool]:
        row = {
            "request_id": asked.request_id,
            "user_id": asked.user_id,
            "prompt": asked.request.prompt,
            "request": asked.request.SerializeToString(),
            "create_time_us": asked.create_time_us,
            "is_cancelled": False,
            "holder": holder,
            "beats": 0,
        }
        running = select(func.count()).select_from(rounds).where(rounds.c.user_id == asked.user_id, ~rounds.c.is_over)
        async with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":  # one at a time of a merchant's, as SQLite has it anyway
                await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("studio " + asked.user_id))))
            insert = insert_into(connection, rounds).values(row | _of_state(state))
            insert = insert.on_conflict_do_nothing(index_elements=["request_id"])
            added = (await connection.execute(insert.returning(rounds.c.request_id))).first()
            if added is not None and (await connection.execute(running)).scalar_one() > most:
                raise ResourceExhausted(f"{most} rounds of this merchant are running")
            query = select(rounds).where(rounds.c.request_id == asked.request_id)
            return _followed((await connection.execute(query)).one()), added is not None

    async def get(self, user_id: str, request_id: str) -> Followed | None:
        query = select(rounds).where(rounds.c.request_id == request_id, rounds.c.user_id == user_id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _followed(row)

    async def state(self, user_id: str, request_id: str) -> State | None:
        query = select(rounds.c.state).where(rounds.c.request_id == request_id, rounds.c.user_id == user_id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else State.of(row.state)

    async def save(self, asked: Asked, holder: str, state: State) -> bool | None:
        values = _of_state(state) | {"beats": rounds.c.beats + 1}
        if state.is_over:
            kept = GenerateRequest()
            kept.CopyFrom(asked.request)
            kept.ClearField("reference_image")
            values |= {"previews": b"", "request": kept.SerializeToString()}
        query = (
            update(rounds)
            .where(rounds.c.request_id == asked.request_id, rounds.c.holder == holder)
            .values(values)
            .returning(rounds.c.is_cancelled)
        )
        async with self._database.writing(new=False) as connection:
            asked_to_end: bool | None = (await connection.execute(query)).scalar_one_or_none()
            return asked_to_end

    async def take(self, found: Running, holder: str) -> Followed | None:
        unmoved = (
            rounds.c.request_id == found.request_id,
            rounds.c.holder == found.holder,
            rounds.c.beats == found.beats,
            ~rounds.c.is_over,
        )
        query = update(rounds).where(*unmoved).values(holder=holder, beats=found.beats + 1).returning(*rounds.c)
        async with self._database.writing(new=False) as connection:
            row = (await connection.execute(query)).one_or_none()
            return None if row is None else _followed(row)

    async def give_up(self, request_ids: Sequence[str], holder: str) -> None:
        held = (rounds.c.request_id.in_(request_ids), rounds.c.holder == holder, ~rounds.c.is_over)
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(rounds).where(*held).values(holder=""))

    async def ask_to_end(self, user_id: str, request_id: str) -> None:
        theirs = (rounds.c.request_id == request_id, rounds.c.user_id == user_id)
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(rounds).where(*theirs).values(is_cancelled=True))

    async def running(self, user_id: str | None = None) -> Sequence[Running]:
        columns = [rounds.c[each.name] for each in fields(Running)]
        query = select(*columns).where(~rounds.c.is_over).order_by(rounds.c.create_time_us.desc())
        if user_id is not None:
            query = query.where(rounds.c.user_id == user_id)
        async with self._database.transaction() as connection:
            return [Running(**row._mapping) for row in await connection.execute(query)]

    async def forget(self, before_us: int) -> None:
        old = (rounds.c.is_over, rounds.c.create_time_us < before_us)
        async with self._database.transaction() as connection:  # a look first: most of the time nothing is old
            if (await connection.execute(select(rounds.c.request_id).where(*old).limit(1))).first() is None:
                return
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(rounds).where(*old))


def _of_state(state: State) -> dict[str, Any]:
    previews = GenerateProgress(previews=state.previews).SerializeToString()
    return {"state": state.plain(), "previews": previews, "is_over": state.is_over}


def _followed(row: Any) -> Followed:
    asked = Asked(GenerateRequest.FromString(row.request), row.create_time_us)
    previews = tuple(GenerateProgress.FromString(row.previews).previews)
    return Followed(asked, State.of(row.state, previews), row.holder, row.beats)
