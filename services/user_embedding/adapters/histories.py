"""Histories in SQL: what groups showed, the pick that counts of each, and the offsets behind both.

A batch's rows and offsets are one transaction, in which the offsets are the fence: of two replicas that read the same
records, one finds the offsets moved and keeps nothing. Knows queries. Does not know Kafka, protobuf, or which database
it is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.history import LAST_GROUPS
from services.runtime.database import Database, insert_into
from services.runtime.records import Offsets, Partition
from services.user_embedding.adapters.tables import history_groups, history_offsets, history_picks
from services.user_embedding.incoming import Incoming, Pick, ShownGroup
from services.user_embedding.ports import Histories
from services.user_embedding.profiles import History, PickedGroup

# Of one user: more than are used, since some say nothing, and a group may come after its pick.
KEPT_PICKS = 2 * LAST_GROUPS
_MOST_AT_ONCE = 500  # values in one query


class _Moved(Exception):
    """Another process has moved an offset."""


class SqlHistories(Histories):
    """One row a group, one a picked group, one a partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user_ids: Sequence[str]) -> dict[str, History]:
        query = (
            select(history_picks, history_groups.c.shown)
            .join(
                history_groups,
                (history_groups.c.group_id == history_picks.c.group_id)
                & (history_groups.c.user_id == history_picks.c.user_id),
            )
            .where(history_picks.c.user_id.in_(set(user_ids)))
            .order_by(history_picks.c.user_id, history_picks.c.sequence, history_picks.c.group_id)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        found: dict[str, list[PickedGroup]] = {}
        for row in rows:
            picked = set(row.picked)
            if picked <= row.shown.keys():
                shown = tuple(map(tuple, row.shown.values()))
                group = PickedGroup(row.sequence, shown, tuple(image_id in picked for image_id in row.shown))
                found.setdefault(row.user_id, []).append(group)
        return {user_id: tuple(groups) for user_id, groups in found.items()}

    async def offsets(self) -> Offsets:
        async with self._database.transaction() as connection:
            rows = (await connection.execute(select(history_offsets))).all()
        return {Partition(row.cluster_id, row.topic, row.topic_id, row.partition): row.next_offset for row in rows}

    async def apply(self, incoming: Sequence[Incoming], expected: Offsets, reached: Offsets) -> bool:
        try:
            async with self._database.writing() as connection:
                for partition, offset in sorted(reached.items()):  # one order: replicas never lock each other out
                    await _move(connection, partition, expected[partition], offset)
                for event in incoming:
                    if isinstance(event, ShownGroup):
                        await _add_group(connection, event)
                    else:
                        await _add_pick(connection, event)
                await _prune(connection, {event.user_id for event in incoming if isinstance(event, Pick)})
        except _Moved:
            return False
        return True

    async def sweep(self, before_us: int) -> int:
        has_pick = (
            select(history_picks.c.group_id).where(history_picks.c.group_id == history_groups.c.group_id).exists()
        )
        old = delete(history_groups).where((history_groups.c.create_time_us < before_us) & ~has_pick)
        async with self._database.writing(new=False) as connection:
            return (await connection.execute(old)).rowcount


async def _move(connection: AsyncConnection, partition: Partition, expected: int, reached: int) -> None:
    """Moves one offset, if it is where it was read from; the first statement takes the row's lock, or SQLite's."""
    key = {
        "cluster_id": partition.cluster_id,
        "topic": partition.topic,
        "topic_id": partition.topic_id,
        "partition": partition.number,
    }
    await connection.execute(
        insert_into(connection, history_offsets).values(**key, next_offset=expected).on_conflict_do_nothing()
    )
    here = [history_offsets.c[name] == value for name, value in key.items()]
    moved = update(history_offsets).where(*here, history_offsets.c.next_offset == expected).values(next_offset=reached)
    if (await connection.execute(moved)).rowcount != 1:
        raise _Moved


async def _add_group(connection: AsyncConnection, group: ShownGroup) -> None:
    """A group is written once and never changed."""
    row = {
        "group_id": group.group_id,
        "user_id": group.user_id,
        "create_time_us": group.create_time_us,
        "shown": {image_id: list(phrases) for image_id, phrases in group.shown.items()},
    }
    await connection.execute(insert_into(connection, history_groups).values(row).on_conflict_do_nothing())


async def _add_pick(connection: AsyncConnection, pick: Pick) -> None:
    """Of two picks of a group the greater sequence counts; of those without one, the later in its topic."""
    row: dict[str, Any] = {"user_id": pick.user_id, "sequence": pick.sequence, "picked": list(pick.picked)}
    insert = insert_into(connection, history_picks).values(row | {"group_id": pick.group_id})
    counts = insert.excluded.sequence >= history_picks.c.sequence
    await connection.execute(insert.on_conflict_do_update(index_elements=["group_id"], set_=row, where=counts))


async def _prune(connection: AsyncConnection, users: Iterable[str]) -> None:
    """Forgets what is older than the last picks of these users, the groups with their picks."""
    for user_id in sorted(users):
        of_user = history_picks.c.user_id == user_id
        count = (await connection.execute(select(func.count()).select_from(history_picks).where(of_user))).scalar_one()
        if count <= KEPT_PICKS:
            continue
        newest_first = (history_picks.c.sequence.desc(), history_picks.c.group_id.desc())
        query = select(history_picks.c.group_id).where(of_user).order_by(*newest_first).offset(KEPT_PICKS)
        old = list((await connection.execute(query)).scalars())
        for start in range(0, len(old), _MOST_AT_ONCE):
            some = old[start : start + _MOST_AT_ONCE]
            for table in (history_picks, history_groups):
                await connection.execute(delete(table).where(table.c.group_id.in_(some)))
