"""Groups that were asked for once, remembered in SQL, because a group never changes.

So a pick is corrected while the generation service is away. Knows a table; where groups come from, it asks another.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import select

from services.feedback.adapters.tables import shown_groups
from services.feedback.picks import ShownGroup
from services.feedback.ports import Groups
from services.runtime.batches import Batches
from services.runtime.database import Database, insert_into

_MOST = 500  # groups that one query reads


class RememberedGroups(Groups):
    """The groups of `groups`, each asked for until there is an answer."""

    def __init__(self, database: Database, groups: Groups) -> None:
        self._database = database
        self._groups = groups
        self._finding: Batches[str, ShownGroup | None] = Batches(self._find, most=_MOST)

    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        wanted = list(group_ids)
        known = {group.group_id: group for group in await self._finding.run(wanted) if group is not None}
        if len(known) == len(wanted):
            return known
        asked = await self._groups.get([group_id for group_id in wanted if group_id not in known])
        if asked:
            async with self._database.writing() as connection:
                insert = insert_into(connection, shown_groups).on_conflict_do_nothing()
                await connection.execute(insert, [asdict(asked[group_id]) for group_id in sorted(asked)])
        return {**known, **asked}

    async def _find(self, group_ids: Sequence[str]) -> Sequence[ShownGroup | None]:
        query = select(shown_groups).where(shown_groups.c.group_id.in_(set(group_ids)))
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        found = {row.group_id: ShownGroup(row.group_id, row.user_id, row.release, tuple(row.image_ids)) for row in rows}
        return [found.get(group_id) for group_id in group_ids]

    async def check(self) -> None:
        await self._groups.check()
