"""Rounds, groups and candidates."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "rounds",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("group_id", sa.String(36), nullable=False, unique=True),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=True),
    )
    op.create_table(
        "groups",
        sa.Column("group_id", sa.String(36), sa.ForeignKey("rounds.group_id"), primary_key=True),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("negative_prompt", sa.Text, nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("num_steps", sa.Integer, nullable=False),
        sa.Column("guidance_scale", sa.Float(53), nullable=False),
        sa.Column("adapter_scale", sa.Float(53), nullable=False),
        sa.Column("sampler", sa.String(32), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("strength", sa.Float(53), nullable=True),
        sa.Column("reference_image_sha256", sa.String(64), nullable=False),
        sa.Column("refused_wishes", sa.JSON, nullable=False),
    )
    op.create_index("groups_by_user", "groups", ["user_id", "create_time_us", "group_id"])
    op.create_table(
        "candidates",
        sa.Column("group_id", sa.String(36), sa.ForeignKey("groups.group_id"), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True),
        sa.Column("image_id", sa.String(36), nullable=False, unique=True),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("wishes", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("candidates")
    op.drop_table("groups")
    op.drop_table("rounds")
