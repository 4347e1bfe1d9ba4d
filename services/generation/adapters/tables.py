"""The tables of groups. Times are microseconds since 1970 UTC, because that compares the same way in every database."""

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
)

METADATA = MetaData()

# One row per request_id. It is what makes Generate idempotent.
rounds = Table(
    "rounds",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("group_id", String(36), nullable=False, unique=True),
    Column("release", BigInteger, nullable=False),
    # "running": being made. "stored": made and kept, its event not yet acknowledged. "done": clients may see it.
    Column("state", String(8), nullable=False),
    # The call that works on it, and when its lease ends without a renewal; "" when no call works on it.
    Column("owner", String(36), nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    # The serialized GroupGenerated, stored in the group's transaction so that it can be sent (again) after a crash.
    Column("event", LargeBinary, nullable=True),
)

groups = Table(
    "groups",
    METADATA,
    Column("group_id", String(36), ForeignKey("rounds.group_id"), primary_key=True),
    Column("request_id", String(36), nullable=False),
    Column("user_id", String(128), nullable=False),
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
    Index("groups_by_user", "user_id", "create_time_us", "group_id"),
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
)
