"""Merchants' shops, and which order is which buyer's."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "studio_shops",
        sa.Column("user_id", sa.String(128), primary_key=True),
        sa.Column("shop_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_shops_by_id", "studio_shops", ["shop_id"], unique=True)
    op.create_table(
        "studio_orders",
        sa.Column("order_id", sa.String(36), primary_key=True),
        sa.Column("buyer_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("presale_id", sa.String(36), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_orders_by_buyer", "studio_orders", ["buyer_id", "create_time_us"])


def downgrade() -> None:
    for table in ("studio_orders", "studio_shops"):
        op.drop_table(table)
