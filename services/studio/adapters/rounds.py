"""Followed rounds in SQL, one row each. It knows queries; not what a state means."""

from collections.abc import Sequence
from typing import Any

from perfusion.v1.generation_service_pb2 import GenerateRequest
from sqlalchemy import ColumnElement, delete, select, update

from services.runtime.database import Database, insert_into
from services.studio.adapters.tables import rounds
from services.studio.following import Asked, Followed, State
from services.studio.ports import FollowedRounds


class SqlRounds(FollowedRounds):
    """A holder's writes name the holder: what was taken over, it writes no more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, asked: Asked, state: State, holder: str) -> tuple[Followed, bool]:
        row = {
            "request_id": asked.request_id,
            "user_id": asked.user_id,
            "request": asked.request.SerializeToString(),
            "create_time_us": asked.create_time_us,
            "is_cancelled": False,
            "holder": holder,
            "beats": 0,
        }
        async with self._database.writing() as connection:
            insert = insert_into(connection, rounds).values(row | _of_state(state))
            insert = insert.on_conflict_do_nothing(index_elements=["request_id"])
            added = (await connection.execute(insert.returning(rounds.c.request_id))).first()
            query = select(rounds).where(rounds.c.request_id == asked.request_id)
            return _followed((await connection.execute(query)).one()), added is not None

    async def get(self, user_id: str, request_id: str) -> Followed | None:
        return next(iter(await self._read(rounds.c.request_id == request_id, rounds.c.user_id == user_id)), None)

    async def save(self, request_id: str, holder: str, state: State) -> bool | None:
        query = (
            update(rounds)
            .where(rounds.c.request_id == request_id, rounds.c.holder == holder)
            .values(_of_state(state) | {"beats": rounds.c.beats + 1})
            .returning(rounds.c.is_cancelled)
        )
        async with self._database.writing(new=False) as connection:
            asked_to_end: bool | None = (await connection.execute(query)).scalar_one_or_none()
            return asked_to_end

    async def take(self, found: Followed, holder: str) -> bool:
        unmoved = (
            rounds.c.request_id == found.asked.request_id,
            rounds.c.holder == found.holder,
            rounds.c.beats == found.beats,
            ~rounds.c.is_over,
        )
        async with self._database.writing(new=False) as connection:
            taken = await connection.execute(
                update(rounds).where(*unmoved).values(holder=holder, beats=found.beats + 1)
            )
        return taken.rowcount == 1

    async def give_up(self, request_ids: Sequence[str], holder: str) -> None:
        held = (rounds.c.request_id.in_(request_ids), rounds.c.holder == holder, ~rounds.c.is_over)
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(rounds).where(*held).values(holder=""))

    async def ask_to_end(self, user_id: str, request_id: str) -> None:
        theirs = (rounds.c.request_id == request_id, rounds.c.user_id == user_id)
        async with self._database.writing(new=False) as connection:
            await connection.execute(update(rounds).where(*theirs).values(is_cancelled=True))

    async def running(self, user_id: str | None = None) -> Sequence[Followed]:
        mine = [] if user_id is None else [rounds.c.user_id == user_id]
        return await self._read(~rounds.c.is_over, *mine)

    async def forget(self, before_us: int) -> None:
        old = (rounds.c.is_over, rounds.c.create_time_us < before_us)
        async with self._database.transaction() as connection:  # a look first: most of the time nothing is old
            if (await connection.execute(select(rounds.c.request_id).where(*old).limit(1))).first() is None:
                return
        async with self._database.writing(new=False) as connection:
            await connection.execute(delete(rounds).where(*old))

    async def _read(self, *conditions: ColumnElement[bool]) -> list[Followed]:
        query = select(rounds).where(*conditions).order_by(rounds.c.create_time_us.desc())
        async with self._database.transaction() as connection:
            return [_followed(row) for row in await connection.execute(query)]


def _of_state(state: State) -> dict[str, Any]:
    return {"state": state.plain(), "previews": state.previews.SerializeToString(), "is_over": state.is_over}


def _followed(row: Any) -> Followed:
    asked = Asked(GenerateRequest.FromString(row.request), row.create_time_us)
    return Followed(asked, State.of(row.state, row.previews), row.holder, row.beats)
