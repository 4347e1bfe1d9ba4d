"""A buyer's orders of a presale are found, to be counted."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("orders_by_buyer", "orders", ["presale_id", "buyer_id"], unique=False)


def downgrade() -> None:
    op.drop_index("orders_by_buyer", table_name="orders")
