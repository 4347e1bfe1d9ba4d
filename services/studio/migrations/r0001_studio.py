"""Sessions, rounds that pages follow, starred and shared pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "studio_sessions",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("merchants", sa.JSON, nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("form_token", sa.String(64), nullable=False),
        sa.Column("login", sa.JSON, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("use_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_sessions_by_use", "studio_sessions", ["use_time_us"])
    op.create_table(
        "studio_rounds",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("previews", sa.LargeBinary, nullable=False),
        sa.Column("is_over", sa.Boolean, nullable=False),
        sa.Column("is_cancelled", sa.Boolean, nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_rounds_by_user", "studio_rounds", ["user_id", "is_over"])
    op.create_index("studio_rounds_by_end", "studio_rounds", ["is_over", "create_time_us"])
    op.create_table(
        "studio_stars",
        sa.Column("user_id", sa.String(128), primary_key=True),
        sa.Column("image_id", sa.String(36), primary_key=True),
        sa.Column("group_id", sa.String(36), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "studio_shares",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("group_id", sa.String(36), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_shares_by_picture", "studio_shares", ["user_id", "image_id"], unique=True)


def downgrade() -> None:
    for table in ("studio_shares", "studio_stars", "studio_rounds", "studio_sessions"):
        op.drop_table(table)
