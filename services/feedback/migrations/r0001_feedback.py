"""Picks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("group_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("selected_image_ids", sa.JSON, nullable=False),
        sa.Column("unselected_image_ids", sa.JSON, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("feedback")
