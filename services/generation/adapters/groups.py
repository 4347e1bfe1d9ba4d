"""Groups in SQL, visible only once the outbox owes their events no more.

It knows tables and pages; not pictures' bytes, nor what events say.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from perfusion.v1.events_pb2 import GroupGenerated
from sqlalchemy import Row, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import OUTBOX, candidates, groups
from services.generation.orders import Candidate, Group, Settings
from services.generation.ports import Claim, Groups
from services.runtime.database import Database
from services.runtime.outbox import Outbox
from services.runtime.pages import Page

_SETTINGS = tuple(Settings.__dataclass_fields__)
_CANDIDATE = ("image_id", "uri", "seed", "score", "rank", "wishes", "release")


class SqlGroups(Groups):
    """One row a group, one a candidate; `claims` and `outbox` are of the same database and share its transactions."""

    def __init__(self, database: Database, claims: SqlRoundClaims, outbox: Outbox) -> None:
        self._database = database
        self._claims = claims
        self._outbox = outbox

    async def add(self, claim: Claim, group: Group, event_id: str, event: GroupGenerated) -> None:
        row = {name: value for name, value in asdict(group).items() if name in groups.c} | asdict(group.settings)
        pictures = [
            {"group_id": group.group_id} | {name: getattr(candidate, name) for name in _CANDIDATE}
            for candidate in group.candidates
        ]
        async with self._database.transaction() as connection:
            await self._claims.finish(connection, claim, group.release)
            sequence = await self._outbox.next_sequence(connection, group.user_id)
            await connection.execute(insert(groups).values(row | {"sequence": sequence}))
            await connection.execute(insert(candidates), pictures)
            await self._outbox.add(connection, group.user_id, sequence, event_id, event)

    async def get(self, group_id: str) -> Group | None:
        async with self._database.transaction() as connection:
            found = await _read(connection, _visible().where(groups.c.group_id == group_id))
        return found[0][1] if found else None

    async def page(self, user_id: str, page: Page) -> tuple[Sequence[Group], int | None]:
        query = _visible().where(groups.c.user_id == user_id)
        if page.after is not None:
            query = query.where(groups.c.sequence < page.after)
        async with self._database.transaction() as connection:
            found = await _read(connection, query.order_by(groups.c.sequence.desc()).limit(page.size + 1))
        shown = found[: page.size]
        return [group for _, group in shown], shown[-1][0] if len(found) > page.size else None


def _visible() -> Select[Any]:
    return select(groups).where(~OUTBOX.owes(groups.c.user_id, groups.c.sequence))


async def _read(connection: AsyncConnection, query: Select[Any]) -> Sequence[tuple[int, Group]]:
    """Groups with their places."""
    rows = (await connection.execute(query)).all()
    ids = [row.group_id for row in rows]
    pictures = select(candidates).where(candidates.c.group_id.in_(ids)).order_by(candidates.c.rank)
    of_group: dict[str, list[Candidate]] = {group_id: [] for group_id in ids}
    for picture in await connection.execute(pictures):
        read = {name: getattr(picture, name) for name in _CANDIDATE}
        of_group[picture.group_id].append(Candidate(**read | {"wishes": tuple(picture.wishes)}))
    return [(row.sequence, _group(row, tuple(of_group[row.group_id]))) for row in rows]


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
        arm=row.arm,
        propensity=row.propensity,
        trial_release=row.trial_release,
    )
