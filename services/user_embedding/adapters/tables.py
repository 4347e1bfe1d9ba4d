"""The tables of profiles, one row a user, and of what users picked. Times are microseconds since 1970 UTC."""

from pathlib import Path

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, String, Table

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

# What groups showed and what was picked in them, from Kafka. A group may come after its pick.
history_groups = Table(
    "history_groups",
    METADATA,
    Column("group_id", String(36), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("shown", JSON, nullable=False),  # image_id → phrases beside the prompt
    Index("history_groups_by_user", "user_id"),
    Index("history_groups_by_time", "create_time_us"),
)

history_picks = Table(
    "history_picks",
    METADATA,
    Column("group_id", String(36), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of the pick that counts
    Column("picked", JSON, nullable=False),  # image_ids
    Index("history_picks_by_user", "user_id", "sequence"),
)

# How far each partition is read; moved in the transaction that keeps what its records say.
history_offsets = Table(
    "history_offsets",
    METADATA,
    Column("cluster_id", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("topic_id", String(64), primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
)
