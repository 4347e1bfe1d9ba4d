"""Presales, orders, payments, the ledger, and the record of changes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "items_outbox",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.String(length=55), nullable=False),
        sa.Column("add_time_us", sa.BigInteger(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", "sequence"),
        sa.UniqueConstraint("event_id"),
    )
    op.create_table(
        "items_outbox_keys",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "presales",
        sa.Column("presale_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("secured_units", sa.BigInteger(), nullable=False),
        sa.Column("pending_units", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("decided_by", sa.String(length=16), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("update_us", sa.BigInteger(), nullable=False),
        sa.Column("open_us", sa.BigInteger(), nullable=False),
        sa.Column("decide_by_us", sa.BigInteger(), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("presale_id"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index("presales_by_due", "presales", ["due_us"], unique=False)
    op.create_index("presales_by_user", "presales", ["user_id", "number"], unique=True)
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("presale_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("buyer_id", sa.String(length=128), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("payment_method", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("payment_id", sa.String(length=255), nullable=False),
        sa.Column("payment_state", sa.String(length=16), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("capture_before_us", sa.BigInteger(), nullable=False),
        sa.Column("action_url", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("pay_by_us", sa.BigInteger(), nullable=False),
        sa.Column("ships_by_us", sa.BigInteger(), nullable=False),
        sa.Column("delayed_to_us", sa.BigInteger(), nullable=False),
        sa.Column("delay_reason", sa.Text(), nullable=False),
        sa.Column("tracking", sa.String(length=100), nullable=False),
        sa.Column("return_by_us", sa.BigInteger(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("encounter", sa.JSON(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("update_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["presale_id"],
            ["presales.presale_id"],
        ),
        sa.PrimaryKeyConstraint("order_id"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index("orders_by_due", "orders", ["due_us"], unique=False)
    op.create_index("orders_by_payment", "orders", ["payment_id"], unique=False)
    op.create_index("orders_by_presale", "orders", ["presale_id", "number"], unique=True)
    op.create_index("orders_by_state", "orders", ["presale_id", "state", "number"], unique=False)
    op.create_table(
        "presale_changes",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("presale_id", sa.String(length=36), nullable=False),
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("actor", sa.String(length=16), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["presale_id"],
            ["presales.presale_id"],
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("presale_changes_by_presale", "presale_changes", ["presale_id", "number"], unique=False)
    op.create_table(
        "presale_delays",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("presale_id", sa.String(length=36), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("orders_asked", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["presale_id"],
            ["presales.presale_id"],
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "ledger",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("movement", sa.String(length=16), nullable=False),
        sa.Column("account", sa.String(length=16), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.order_id"],
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ledger_by_order", "ledger", ["order_id"], unique=False)
    op.create_table(
        "payment_operations",
        sa.Column("order_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=True),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.order_id"],
        ),
        sa.PrimaryKeyConstraint("order_id", "kind", "attempt"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("payment_operations_by_due", "payment_operations", ["due_us"], unique=False)


def downgrade() -> None:
    op.drop_index("payment_operations_by_due", table_name="payment_operations")
    op.drop_table("payment_operations")
    op.drop_index("ledger_by_order", table_name="ledger")
    op.drop_table("ledger")
    op.drop_table("presale_delays")
    op.drop_index("presale_changes_by_presale", table_name="presale_changes")
    op.drop_table("presale_changes")
    op.drop_index("orders_by_state", table_name="orders")
    op.drop_index("orders_by_presale", table_name="orders")
    op.drop_index("orders_by_payment", table_name="orders")
    op.drop_index("orders_by_due", table_name="orders")
    op.drop_table("orders")
    op.drop_index("presales_by_user", table_name="presales")
    op.drop_index("presales_by_due", table_name="presales")
    op.drop_table("presales")
    op.drop_table("items_outbox_keys")
    op.drop_table("items_outbox")
