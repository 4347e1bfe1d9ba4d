"""The tables of picks. Times are microseconds since 1970 UTC; they tell, and decide no order."""

from pathlib import Path

from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, String, Table

from services.runtime.migrations import Schema
from services.runtime.outbox import outbox_tables

METADATA = MetaData()
SCHEMA = Schema("feedback", METADATA, Path(__file__).parents[1] / "migrations")

# One row a request_id. It is what makes SubmitFeedback idempotent.
picks = Table(
    "feedback",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("group_id", String(36), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),  # its place among its user's picks, by the database's count
    Column("release", BigInteger, nullable=False),
    Column("selected_image_ids", JSON, nullable=False),
    Column("unselected_image_ids", JSON, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Index("feedback_by_user", "user_id", "sequence", unique=True),
    Index("feedback_by_group", "group_id", "sequence"),
)

# What a pick is checked against, of groups that were asked for before.
shown_groups = Table(
    "shown_groups",
    METADATA,
    Column("group_id", String(36), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("release", BigInteger, nullable=False),
    Column("image_ids", JSON, nullable=False),  # best first
)

OUTBOX = outbox_tables(METADATA, "feedback")  # a pick's event has the pick's place
