"""The tables of groups. Times are microseconds since 1970 UTC; they tell, and decide neither an order nor a lease."""

from pathlib import Path

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from services.runtime.migrations import Schema
from services.runtime.outbox import outbox_tables

METADATA = MetaData()
SCHEMA = Schema("generation", METADATA, Path(__file__).parents[1] / "migrations")

# One row per request_id. It is what makes Generate idempotent.
rounds = Table(
    "rounds",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("group_id", String(36), nullable=False, unique=True),
    Column("release", BigInteger, nullable=False),
    # "running": a call makes its group. "done": the group is stored, and clients see it when Kafka has its event.
    Column("state", String(8), nullable=False),
    # The claim of the call that works on it: a token, "" for none, and a count that moves while the call works.
    Column("owner", String(36), nullable=False),
    Column("beats", BigInteger, nullable=False),
    Column("event", LargeBinary, nullable=True),  # kept of groups made before events had an outbox; NULL since
    Index(
        "rounds_running", "state", sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'")
    ),
)

groups = Table(
    "groups",
    METADATA,
    Column("group_id", String(36), ForeignKey("rounds.group_id"), primary_key=True),
    Column("request_id", String(36), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("sequence", BigInteger, nullable=False),  # its place among its user's groups, by the database's count
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text, nullable=False),
    Column("release", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("guidance_scale", Float(53), nullable=False),
    Column("adapter_scale", Float(53), nullable=False),
    Column("sampler", String(32), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("strength", Float(53), nullable=True),
    Column("reference_image_sha256", String(64), nullable=False),
    Column("refused_wishes", JSON, nullable=False),
    # NULL in groups from before these were kept; trial_release also where nothing was to be mixed.
    Column("variety", Float(53), nullable=True),
    Column("arm", String(16), nullable=True),
    Column("propensity", Float(53), nullable=True),
    Column("trial_release", BigInteger, nullable=True),
    Index("groups_by_user", "user_id", "sequence", unique=True),
)

candidates = Table(
    "candidates",
    METADATA,
    Column("group_id", String(36), ForeignKey("groups.group_id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("image_id", String(36), nullable=False, unique=True),
    Column("uri", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("score", Float(53), nullable=False),
    Column("wishes", JSON, nullable=False),
    Column("release", BigInteger, nullable=True),  # NULL from before it was kept: the group's
    Index("candidates_by_uri", "uri"),  # a sweep of the object store asks which objects have a candidate
)

OUTBOX = outbox_tables(METADATA, "groups")  # a group's event has the group's place
