"""Groups in SQL, visible only once their round is done. It knows tables and pages; not pictures' bytes or messages."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, Select, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import candidates, groups, rounds
from services.generation.orders import Candidate, Group, Settings
from services.generation.pages import Position
from services.generation.ports import Claim, Groups
from services.runtime.database import Database

_SETTINGS = tuple(Settings.__dataclass_fields__)
_CANDIDATE = ("image_id", "uri", "seed", "score", "rank", "wishes")


class SqlGroups(Groups):
    """One row a group, one a candidate; `claims` are of the same database, whose transaction they share."""

    def __init__(self, database: Database, claims: SqlRoundClaims) -> None:
        self._database = database
        self._claims = claims

    async def add(self, claim: Claim, group: Group, event: bytes) -> None:
        row = {name: value for name, value in asdict(group).items() if name in groups.c} | asdict(group.settings)
        pictures = [
            {"group_id": group.group_id} | {name: getattr(candidate, name) for name in _CANDIDATE}
            for candidate in group.candidates
        ]
        async with self._database.transaction() as connection:
            await self._claims.change(connection, claim, state="stored", event=event)
            await connection.execute(insert(groups).values(row))
            await connection.execute(insert(candidates), pictures)

    async def get(self, group_id: str) -> Group | None:
        async with self._database.transaction() as connection:
            found = await _read(connection, _finished().where(groups.c.group_id == group_id))
        return found[0] if found else None

    async def page(self, user_id: str, size: int, after: Position | None) -> tuple[Sequence[Group], bool]:
        query = _finished().where(groups.c.user_id == user_id)
        if after is not None:
            place = tuple_(groups.c.create_time_us, groups.c.group_id)
            query = query.where(place < tuple_(after.create_time_us, after.group_id))
        query = query.order_by(groups.c.create_time_us.desc(), groups.c.group_id.desc()).limit(size + 1)
        async with self._database.transaction() as connection:
            found = await _read(connection, query)
        return found[:size], len(found) > size


def _finished() -> Select[Any]:
    return select(groups).join(rounds, rounds.c.group_id == groups.c.group_id).where(rounds.c.state == "done")


async def _read(connection: AsyncConnection, query: Select[Any]) -> Sequence[Group]:
    rows = (await connection.execute(query)).all()
    ids = [row.group_id for row in rows]
    pictures = select(candidates).where(candidates.c.group_id.in_(ids)).order_by(candidates.c.rank)
    of_group: dict[str, list[Candidate]] = {group_id: [] for group_id in ids}
    for picture in await connection.execute(pictures):
        read = {name: getattr(picture, name) for name in _CANDIDATE}
        of_group[picture.group_id].append(Candidate(**read | {"wishes": tuple(picture.wishes)}))
    return [_group(row, tuple(of_group[row.group_id])) for row in rows]


def _group(row: Row[Any], of_group: tuple[Candidate, ...]) -> Group:
    settings = {name: getattr(row, name) for name in _SETTINGS}
    return Group(
        group_id=row.group_id,
        request_id=row.request_id,
        user_id=row.user_id,
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        release=row.release,
        create_time_us=row.create_time_us,
        settings=Settings(**settings | {"refused_wishes": tuple(row.refused_wishes)}),
        candidates=of_group,
    )
