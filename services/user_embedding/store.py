"""Profiles in SQL: one row a user, replaced whole.

Knows the table. Does not know schemas of features, protobuf, or which database it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, MetaData, String, Table, select

from services.runtime.database import Database, insert_into
from services.user_embedding.profiles import Profile, Value

METADATA = MetaData()
_PROFILES = Table(
    "user_profiles",
    METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("features", JSON, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),  # microseconds since 1970 UTC: SQLite has no time zones
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class StoredProfile:
    """A profile as last put."""

    user_id: str
    features: Profile
    update_time: datetime


class ProfileStore:
    """Reads and writes profiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, profile: StoredProfile) -> None:
        """Replaces the user's profile, whole, or creates it."""
        values = {"features": dict(profile.features), "update_time_us": (profile.update_time - _EPOCH) // _MICROSECOND}
        async with self._database.transaction() as connection:
            insert = insert_into(connection, _PROFILES).values(user_id=profile.user_id, **values)
            await connection.execute(insert.on_conflict_do_update(index_elements=["user_id"], set_=values))

    async def get(self, user_ids: Sequence[str]) -> dict[str, StoredProfile]:
        """The profiles of those users that have one, by user id."""
        query = select(_PROFILES).where(_PROFILES.c.user_id.in_(set(user_ids)))
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return {row.user_id: _stored(row) for row in rows}


def _stored(row: Any) -> StoredProfile:
    features = {name: _value(value) for name, value in row.features.items()}
    return StoredProfile(row.user_id, features, _EPOCH + row.update_time_us * _MICROSECOND)


def _value(value: Any) -> Value:
    """JSON has lists for tuples, and may lose the point of a whole number."""
    if isinstance(value, list):
        return tuple(map(str, value))
    return value if isinstance(value, str) else float(value)
