"""The tables of presales, orders and money. Times are microseconds since 1970 UTC, by the database's clock.

Operations, entries of the ledger and changes are written and never deleted.
"""

from pathlib import Path

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from services.runtime.migrations import Schema
from services.runtime.outbox import outbox_tables

METADATA = MetaData()
SCHEMA = Schema("items", METADATA, Path(__file__).parents[1] / "migrations")
_COUNTED = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts no other

presales = Table(
    "presales",
    METADATA,
    Column("presale_id", String(36), primary_key=True),
    Column("request_id", String(36), nullable=False, unique=True),
    Column("user_id", String(128), nullable=False),
    Column("number", BigInteger, nullable=False),  # its place among its merchant's events when it was made
    Column("version", BigInteger, nullable=False),
    Column("asked", JSON, nullable=False),  # the terms of the request, by which a repeat is known
    Column("terms", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("secured_units", BigInteger, nullable=False),
    Column("pending_units", BigInteger, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("decided_by", String(16), nullable=False),
    Column("create_us", BigInteger, nullable=False),
    Column("update_us", BigInteger, nullable=False),
    Column("open_us", BigInteger, nullable=False),
    Column("decide_by_us", BigInteger, nullable=False),
    Column("decided_us", BigInteger, nullable=False),
    Column("due_us", BigInteger),  # when the clock may change it; NULL: never
    Index("presales_by_user", "user_id", "number", unique=True),
    Index("presales_by_due", "due_us"),
)

orders = Table(
    "orders",
    METADATA,
    Column("order_id", String(36), primary_key=True),
    Column("request_id", String(36), nullable=False, unique=True),
    Column("presale_id", String(36), ForeignKey("presales.presale_id"), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("buyer_id", String(128), nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),  # minor units, as held, charged and refunded
    Column("currency", String(3), nullable=False),
    Column("payment_method", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("payment_id", String(255), nullable=False),
    Column("payment_state", String(16), nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("capture_before_us", BigInteger, nullable=False),
    Column("action_url", Text, nullable=False),
    Column("failure", Text, nullable=False),
    Column("pay_by_us", BigInteger, nullable=False),
    Column("ships_by_us", BigInteger, nullable=False),
    Column("delayed_to_us", BigInteger, nullable=False),
    Column("delay_reason", Text, nullable=False),
    Column("tracking", String(100), nullable=False),
    Column("return_by_us", BigInteger, nullable=False),
    Column("returned", Boolean, nullable=False),
    Column("encounter", JSON, nullable=False),  # null where the shop told none
    Column("create_us", BigInteger, nullable=False),
    Column("update_us", BigInteger, nullable=False),
    Column("due_us", BigInteger),  # when the clock may change it; NULL: never
    Index("orders_by_presale", "presale_id", "number", unique=True),
    Index("orders_by_buyer", "presale_id", "buyer_id"),
    Index("orders_by_state", "presale_id", "state", "number"),
    Index("orders_by_payment", "payment_id"),
    Index("orders_by_due", "due_us"),
)

# Whom an order is sent to, by itself: it is personal data and goes when nobody needs it any more.
recipients = Table(
    "order_recipients",
    METADATA,
    Column("order_id", String(36), ForeignKey("orders.order_id"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("email", Text, nullable=False),
)

# What the provider is asked: a row before it is asked, with the key by which it does the work once.
operations = Table(
    "payment_operations",
    METADATA,
    Column("order_id", String(36), ForeignKey("orders.order_id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("attempt", Integer, primary_key=True),  # another one only after the provider has refused the one before
    Column("key", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # "intended", "done", "refused", "dropped": never asked
    Column("calls", Integer, nullable=False),
    Column("first_us", BigInteger),  # when the provider was first asked; NULL: never
    Column("due_us", BigInteger),  # when the provider is asked (again); NULL: no more
    Column("failure", Text, nullable=False),
    Index("payment_operations_by_due", "due_us"),
)

ledger = Table(
    "ledger",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=True),
    Column("order_id", String(36), ForeignKey("orders.order_id"), nullable=False),
    Column("movement", String(16), nullable=False),
    Column("account", String(16), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index("ledger_by_order", "order_id"),
)

changes = Table(
    "presale_changes",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=True),
    Column("presale_id", String(36), ForeignKey("presales.presale_id"), nullable=False),
    Column("order_id", String(36), nullable=False),  # "" for the presale's own
    Column("actor", String(16), nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index("presale_changes_by_presale", "presale_id", "number"),
)

delays = Table(
    "presale_delays",
    METADATA,
    Column("request_id", String(36), primary_key=True),
    Column("presale_id", String(36), ForeignKey("presales.presale_id"), nullable=False),
    Column("days", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("orders_asked", BigInteger, nullable=False),
)

OUTBOX = outbox_tables(METADATA, "items")
