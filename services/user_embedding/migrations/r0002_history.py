"""What users picked, and how far Kafka's topics are read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "history_groups",
        sa.Column("group_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("shown", sa.JSON, nullable=False),
    )
    op.create_index("history_groups_by_user", "history_groups", ["user_id"])
    op.create_index("history_groups_by_time", "history_groups", ["create_time_us"])
    op.create_table(
        "history_picks",
        sa.Column("group_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("picked", sa.JSON, nullable=False),
    )
    op.create_index("history_picks_by_user", "history_picks", ["user_id", "sequence"])
    op.create_table(
        "history_offsets",
        sa.Column("cluster_id", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("topic_id", sa.String(64), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("history_offsets", "history_picks", "history_groups"):
        op.drop_table(table)
