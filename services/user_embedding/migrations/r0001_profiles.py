"""Profiles."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "user_profiles",
        sa.Column("user_id", sa.String(128), primary_key=True),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("user_profiles")
