"""Groups in SQL, seen only once their round is done. It knows tables and pages; not pictures' bytes or messages."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.generation.orders import Candidate, Group, Settings
from services.generation.store.rounds import Claim, RoundStore
from services.generation.store.tables import candidates, groups, rounds
from services.runtime.database import Database
from services.runtime.errors import InvalidArgument

_SETTINGS = tuple(Settings.__dataclass_fields__)
_CANDIDATE = ("image_id", "uri", "seed", "score", "rank")


class GroupStore:
    """Writes a group once, reads one, lists a user's."""

    def __init__(self, database: Database, round_store: RoundStore) -> None:
        self._database = database
        self._rounds = round_store

    async def add(self, claim: Claim, group: Group, event: bytes) -> None:
        """Stores a group and the event it owes, all or nothing, if the claim still holds."""
        row = {name: value for name, value in asdict(group).items() if name in groups.c} | asdict(group.settings)
        pictures = [
            {"group_id": group.group_id} | {name: getattr(candidate, name) for name in _CANDIDATE}
            for candidate in group.candidates
        ]
        async with self._database.transaction() as connection:
            await self._rounds.change(connection, claim, state="stored", event=event)
            await connection.execute(insert(groups).values(row))
            await connection.execute(insert(candidates), pictures)

    async def get(self, group_id: str) -> Group | None:
        """A finished group, without the pictures' bytes."""
        async with self._database.transaction() as connection:
            found = await _read(connection, _finished().where(groups.c.group_id == group_id))
        return found[0] if found else None

    async def list(self, user_id: str, page_size: int, page_token: str) -> tuple[Sequence[Group], str]:
        """One page of a user's finished groups, newest first, and the token of the next ("" on the last)."""
        query = _finished().where(groups.c.user_id == user_id)
        if page_token:
            query = query.where(
                tuple_(groups.c.create_time_us, groups.c.group_id) < tuple_(*_position(page_token, user_id))
            )
        query = query.order_by(groups.c.create_time_us.desc(), groups.c.group_id.desc()).limit(page_size + 1)
        async with self._database.transaction() as connection:
            found = await _read(connection, query)
        page, more = found[:page_size], len(found) > page_size
        return page, _token(page[-1]) if more else ""


def _finished() -> Select[Any]:
    return select(groups).join(rounds, rounds.c.group_id == groups.c.group_id).where(rounds.c.state == "done")


async def _read(connection: AsyncConnection, query: Select[Any]) -> Sequence[Group]:
    rows = (await connection.execute(query)).all()
    ids = [row.group_id for row in rows]
    pictures = select(candidates).where(candidates.c.group_id.in_(ids)).order_by(candidates.c.rank)
    of_group: dict[str, list[Candidate]] = {group_id: [] for group_id in ids}
    for picture in await connection.execute(pictures):
        of_group[picture.group_id].append(Candidate(**{name: getattr(picture, name) for name in _CANDIDATE}))
    return [_group(row, tuple(of_group[row.group_id])) for row in rows]


def _group(row: Row[Any], of_group: tuple[Candidate, ...]) -> Group:
    return Group(
        group_id=row.group_id,
        request_id=row.request_id,
        user_id=row.user_id,
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        release=row.release,
        create_time_us=row.create_time_us,
        settings=Settings(**{name: getattr(row, name) for name in _SETTINGS}),
        candidates=of_group,
    )


def _token(last: Group) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.user_id, last.create_time_us, last.group_id]).encode()).decode()


def _position(token: str, user_id: str) -> tuple[int, str]:
    try:
        of_user, create_time_us, group_id = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        position = int(create_time_us), str(UUID(group_id))
        if not 0 <= position[0] < 2**63:
            raise ValueError(position)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error) as error:
        raise InvalidArgument(("page_token", "was not given by this service")) from error
    if of_user != user_id:
        raise InvalidArgument(("page_token", "belongs to another user's list"))
    return position
