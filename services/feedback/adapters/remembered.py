"""Groups that were asked for once, remembered in SQL, because a group never changes.

So a pick is corrected while the generation service is away. Knows a table; where groups come from, it asks another.
"""

from dataclasses import asdict

from sqlalchemy import select

from services.feedback.adapters.tables import shown_groups
from services.feedback.picks import ShownGroup
from services.feedback.ports import Groups
from services.runtime.database import Database, insert_into


class RememberedGroups(Groups):
    """The groups of `groups`, each asked for until there is an answer."""

    def __init__(self, database: Database, groups: Groups) -> None:
        self._database = database
        self._groups = groups

    async def get(self, group_id: str) -> ShownGroup | None:
        query = select(shown_groups).where(shown_groups.c.group_id == group_id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return ShownGroup(row.group_id, row.user_id, row.release, tuple(row.image_ids))
        group = await self._groups.get(group_id)
        if group is not None:
            async with self._database.transaction() as connection:
                insert = insert_into(connection, shown_groups).values(asdict(group))
                await connection.execute(insert.on_conflict_do_nothing())
        return group

    async def check(self) -> None:
        await self._groups.check()
