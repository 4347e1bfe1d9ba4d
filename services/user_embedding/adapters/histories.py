"""Histories in SQL: what groups showed, the pick that counts of each, and the offsets behind both.

A batch's rows and offsets are one transaction, in which the offsets are the fence: of two replicas that read the same
records, one finds the offsets moved and keeps nothing. Knows queries. Does not know Kafka, protobuf, or which database
it is.
"""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.history import LAST_GROUPS
from contract.topics import Partition
from services.runtime.database import Database, insert_into
from services.runtime.records import Offsets
from services.user_embedding.adapters.tables import history_groups, history_offsets, history_picks
from services.user_embedding.incoming import Incoming, Pick, ShownGroup
from services.user_embedding.ports import Histories
from services.user_embedding.profiles import History, PickedGroup

# Of one user: more than are used, since some say nothing, and a group may come after its pick.
KEPT_PICKS = 2 * LAST_GROUPS
_MOST_AT_ONCE = 500  # rows or values in one statement: few statements hold SQLite's one lock for a short time


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
                groups = [event for event in incoming if isinstance(event, ShownGroup)]
                picks = [event for event in incoming if isinstance(event, Pick)]
                for start in range(0, len(groups), _MOST_AT_ONCE):
                    await _add_groups(connection, groups[start : start + _MOST_AT_ONCE])
                counting = _counting(picks)
                for start in range(0, len(counting), _MOST_AT_ONCE):
                    await _add_picks(connection, counting[start : start + _MOST_AT_ONCE])
                await _prune(connection, sorted({pick.user_id for pick in picks}))
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


async def _add_groups(connection: AsyncConnection, groups: Sequence[ShownGroup]) -> None:
    """A group is written once and never changed."""
    rows = [
        {
            "group_id": group.group_id,
            "user_id": group.user_id,
            "create_time_us": group.create_time_us,
            "shown": {image_id: list(phrases) for image_id, phrases in group.shown.items()},
        }
        for group in groups
    ]
    await connection.execute(insert_into(connection, history_groups).values(rows).on_conflict_do_nothing())


def _counting(picks: Sequence[Pick]) -> list[Pick]:
    """Of each group the pick that counts: the greater sequence; of those without one, the later in its topic."""
    found: dict[str, Pick] = {}
    for pick in picks:
        if pick.group_id not in found or pick.sequence >= found[pick.group_id].sequence:
            found[pick.group_id] = pick
    return list(found.values())


async def _add_picks(connection: AsyncConnection, picks: Sequence[Pick]) -> None:
    """Picks of different groups; one takes the place of an earlier one of its group by the same rule."""
    rows = [vars(pick) | {"picked": list(pick.picked)} for pick in picks]
    insert = insert_into(connection, history_picks).values(rows)
    new = {name: insert.excluded[name] for name in ("user_id", "sequence", "picked")}
    counts = insert.excluded.sequence >= history_picks.c.sequence
    await connection.execute(insert.on_conflict_do_update(index_elements=["group_id"], set_=new, where=counts))


async def _prune(connection: AsyncConnection, users: Sequence[str]) -> None:
    """Forgets what is older than the last picks of these users, the groups with their picks."""
    counted = select(history_picks.c.user_id).group_by(history_picks.c.user_id).having(func.count() > KEPT_PICKS)
    for start in range(0, len(users), _MOST_AT_ONCE):
        query = counted.where(history_picks.c.user_id.in_(users[start : start + _MOST_AT_ONCE]))
        for user_id in list((await connection.execute(query)).scalars()):
            await _prune_one(connection, user_id)


async def _prune_one(connection: AsyncConnection, user_id: str) -> None:
    newest_first = (history_picks.c.sequence.desc(), history_picks.c.group_id.desc())
    query = select(history_picks.c.group_id).where(history_picks.c.user_id == user_id).order_by(*newest_first)
    old = list((await connection.execute(query.offset(KEPT_PICKS))).scalars())
    for start in range(0, len(old), _MOST_AT_ONCE):
        some = old[start : start + _MOST_AT_ONCE]
        for table in (history_picks, history_groups):
            await connection.execute(delete(table).where(table.c.group_id.in_(some)))
