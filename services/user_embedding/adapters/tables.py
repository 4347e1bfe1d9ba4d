"""The table of profiles: one row a user. Times are microseconds since 1970 UTC."""

from pathlib import Path

from sqlalchemy import JSON, BigInteger, Column, MetaData, String, Table

from services.runtime.migrations import Schema

METADATA = MetaData()
SCHEMA = Schema("user_embedding", METADATA, Path(__file__).parents[1] / "migrations")

profiles = Table(
    "user_profiles",
    METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("features", JSON, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
)
