"""The studio's tables. Times are microseconds since 1970 UTC."""

from pathlib import Path

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from services.runtime.migrations import Schema

METADATA = MetaData()
SCHEMA = Schema("studio", METADATA, Path(__file__).parents[1] / "migrations")

sessions = Table(
    "studio_sessions",
    METADATA,
    Column("key", String(64), primary_key=True),  # SHA-256 of what the browser has
    Column("person", Text, nullable=False),  # "" until the person has logged in
    Column("name", Text, nullable=False),
    Column("merchants", JSON, nullable=False),
    Column("user_id", String(128), nullable=False),  # the merchant of now, "" where there is none
    Column("form_token", String(64), nullable=False),
    Column("login", JSON, nullable=False),  # what a login under way remembers
    Column("create_time_us", BigInteger, nullable=False),
    Column("use_time_us", BigInteger, nullable=False),
    Index("studio_sessions_by_use", "use_time_us"),
)

rounds = Table(
    "studio_rounds",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),  # perfusion.v1.GenerateRequest
    Column("create_time_us", BigInteger, nullable=False),
    Column("state", JSON, nullable=False),
    Column("previews", LargeBinary, nullable=False),  # the last perfusion.v1.GenerateProgress that had some
    Column("is_over", Boolean, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),  # asked for; the holder ends it
    Column("holder", String(36), nullable=False),  # services/runtime/leases.py; "" is nobody
    Column("beats", BigInteger, nullable=False),
    Index("studio_rounds_by_user", "user_id", "is_over"),
    Index("studio_rounds_by_end", "is_over", "create_time_us"),
)

stars = Table(
    "studio_stars",
    METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("image_id", String(36), primary_key=True),
    Column("group_id", String(36), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
)

shares = Table(
    "studio_shares",
    METADATA,
    Column("token", String(64), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("image_id", String(36), nullable=False),
    Column("group_id", String(36), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Index("studio_shares_by_picture", "user_id", "image_id", unique=True),
)

shops = Table(
    "studio_shops",
    METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("shop_id", String(64), nullable=False),
    Column("name", Text, nullable=False),  # what buyers read; "" until the merchant says it
    Column("create_time_us", BigInteger, nullable=False),
    Index("studio_shops_by_id", "shop_id", unique=True),
)

placed_orders = Table(
    "studio_orders",
    METADATA,
    Column("order_id", String(36), primary_key=True),
    Column("buyer_id", String(64), nullable=False),  # a hash of what the browser has, buyers.py
    Column("user_id", String(128), nullable=False),  # the item's merchant
    Column("presale_id", String(36), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Index("studio_orders_by_buyer", "buyer_id", "create_time_us"),
)

studies = Table(
    "studio_studies",
    METADATA,
    Column("study_id", String(64), primary_key=True),  # the design_id
    Column("design_sha256", String(64), nullable=False),
    Column("protocol", JSON, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("close_time_us", BigInteger, nullable=False),  # 0: it is open
)

study_pictures = Table(
    "studio_study_pictures",
    METADATA,
    Column("study_id", String(64), primary_key=True),
    Column("picture", String(64), primary_key=True),
    Column("png", LargeBinary, nullable=False),
)

study_raters = Table(
    "studio_study_raters",
    METADATA,
    Column("study_id", String(64), primary_key=True),
    Column("rater_id", String(128), primary_key=True),
    Column("key", String(64), nullable=False),  # SHA-256 of what their link ends in
    Column("begin_time_us", BigInteger, nullable=False),  # 0: they have not read the protocol
    Index("studio_study_raters_by_key", "key", unique=True),
)

study_tasks = Table(
    "studio_study_tasks",
    METADATA,
    Column("study_id", String(64), primary_key=True),
    Column("rater_id", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the rater's order, from 1
    Column("task_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("picture", String(64), nullable=False),
)

study_views = Table(  # of a task's page, each time that it is shown
    "studio_study_views",
    METADATA,
    Column("view_id", String(36), primary_key=True),
    Column("study_id", String(64), nullable=False),
    Column("rater_id", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("show_time_us", BigInteger, nullable=False),  # when the picture was fetched; 0: not yet
    Column("dwell_ms", BigInteger, nullable=False),
    Index("studio_study_views_by_task", "study_id", "rater_id", "number"),
)

study_answers = Table(  # only ever added to; the last one of a task counts
    "studio_study_answers",
    METADATA,
    Column("study_id", String(64), primary_key=True),
    Column("rater_id", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # the task's
    Column("place", Integer, primary_key=True, autoincrement=False),  # among the task's answers, from 1
    Column("view_id", String(36), nullable=False),
    Column("answers", JSON, nullable=False),
    Column("dwell_ms", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
)
