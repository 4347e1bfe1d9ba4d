"""Profiles in SQL: one row a user, replaced whole.

Knows queries. Does not know schemas of features, protobuf, or which database it is.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from services.runtime.database import Database, insert_into
from services.user_embedding.adapters.tables import profiles
from services.user_embedding.ports import Profiles
from services.user_embedding.profiles import StoredProfile, Value


class SqlProfiles(Profiles):
    """Profiles in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, profile: StoredProfile) -> None:
        values = {"features": dict(profile.features), "update_time_us": profile.update_time_us}
        async with self._database.writing() as connection:
            insert = insert_into(connection, profiles).values(user_id=profile.user_id, **values)
            await connection.execute(insert.on_conflict_do_update(index_elements=["user_id"], set_=values))

    async def get(self, user_ids: Sequence[str]) -> dict[str, StoredProfile]:
        query = select(profiles).where(profiles.c.user_id.in_(set(user_ids)))
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return {row.user_id: _stored(row) for row in rows}


def _stored(row: Any) -> StoredProfile:
    features = {name: _value(value) for name, value in row.features.items()}
    return StoredProfile(row.user_id, features, row.update_time_us)


def _value(value: Any) -> Value:
    """JSON has lists for tuples, and may lose the point of a whole number."""
    if isinstance(value, list):
        return tuple(map(str, value))
    return value if isinstance(value, str) else float(value)
