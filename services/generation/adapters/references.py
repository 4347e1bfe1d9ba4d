"""Which pictures stored groups refer to, in SQL. It knows one column; not why anybody asks."""

from collections.abc import Sequence

from sqlalchemy import func, select

from services.generation.adapters.tables import candidates
from services.generation.pictures import NAME_CHARACTERS
from services.generation.ports import References
from services.runtime.database import Database

_MOST_AT_ONCE = 500  # values in one query


class SqlReferences(References):
    """The candidates of all groups, visible or not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def among(self, uris: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(uris), _MOST_AT_ONCE):
            query = select(candidates.c.uri).where(candidates.c.uri.in_(uris[start : start + _MOST_AT_ONCE]))
            async with self._database.transaction() as connection:
                found.update((await connection.execute(query)).scalars())
        return found

    async def named(self, names: Sequence[str]) -> set[str]:
        uri = candidates.c.uri
        long = func.length(uri) > NAME_CHARACTERS
        roots = select(func.substr(uri, 1, func.length(uri) - NAME_CHARACTERS)).where(long).distinct()
        async with self._database.transaction() as connection:
            places = (await connection.execute(roots)).scalars().all() if names else ()
        found = await self.among([place + name for place in places for name in names])
        return {each[-NAME_CHARACTERS:] for each in found}
