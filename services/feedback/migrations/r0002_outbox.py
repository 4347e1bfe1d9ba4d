"""Picks get places in their user's order, events an outbox of their own, and shown groups are remembered.

A pick that was recorded before its event was acknowledged owes it from now on: the relay publishes it.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1.events_pb2 import FeedbackGiven

revision = "0002"
down_revision = "0001"

_feedback = sa.table(
    "feedback",
    *map(sa.column, ("request_id", "event_id", "group_id", "user_id", "sequence", "release", "create_time_us")),
    sa.column("selected_image_ids", sa.JSON),
    sa.column("unselected_image_ids", sa.JSON),
    sa.column("published", sa.Boolean),
)
_keys = sa.table("feedback_outbox_keys", *map(sa.column, ("key", "last_sequence", "holder", "beats")))
_OWED = ("key", "sequence", "event_id", "event_type", "value", "traceparent", "add_time_us", "refusal")
_outbox = sa.table("feedback_outbox", *map(sa.column, _OWED))


def upgrade() -> None:
    op.create_table(
        "feedback_outbox_keys",
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feedback_outbox",
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(55), nullable=False),
        sa.Column("add_time_us", sa.BigInteger, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
    )
    op.create_table(
        "shown_groups",
        sa.Column("group_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("image_ids", sa.JSON, nullable=False),
    )
    with op.batch_alter_table("feedback") as feedback:
        feedback.add_column(sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"))
    _count()
    _owe()
    with op.batch_alter_table("feedback") as feedback:
        feedback.alter_column("sequence", server_default=None)
        feedback.drop_column("published")
        feedback.create_index("feedback_by_user", ["user_id", "sequence"], unique=True)
        feedback.create_index("feedback_by_group", ["group_id", "sequence"])


def _count() -> None:
    """Until now only a pick's time told which came later."""
    place = sa.func.row_number().over(
        partition_by=_feedback.c.user_id, order_by=(_feedback.c.create_time_us, _feedback.c.request_id)
    )
    counted = sa.select(_feedback.c.request_id, place.label("place")).subquery()
    here = sa.select(counted.c.place).where(counted.c.request_id == _feedback.c.request_id).scalar_subquery()
    op.execute(_feedback.update().values(sequence=here))
    last = sa.select(_feedback.c.user_id, sa.func.max(_feedback.c.sequence), sa.literal(""), sa.literal(0))
    op.execute(
        _keys.insert().from_select(["key", "last_sequence", "holder", "beats"], last.group_by(_feedback.c.user_id))
    )


def _owe() -> None:
    connection = op.get_bind()
    for pick in connection.execute(sa.select(_feedback).where(~_feedback.c.published)).all():
        connection.execute(
            _outbox.insert().values(
                key=pick.user_id,
                sequence=pick.sequence,
                event_id=pick.event_id,
                event_type="perfusion.v1.FeedbackGiven",
                value=_event(pick).SerializeToString(deterministic=True),
                traceparent="",
                add_time_us=pick.create_time_us,
                refusal="",
            )
        )


def _event(pick: Any) -> FeedbackGiven:
    feedback_time = Timestamp()
    feedback_time.FromMicroseconds(pick.create_time_us)
    return FeedbackGiven(
        request_id=pick.request_id,
        group_id=pick.group_id,
        user_id=pick.user_id,
        release=pick.release,
        selected_image_ids=pick.selected_image_ids,
        unselected_image_ids=pick.unselected_image_ids,
        feedback_time=feedback_time,
        sequence=pick.sequence,
    )


def downgrade() -> None:
    with op.batch_alter_table("feedback") as feedback:
        feedback.drop_index("feedback_by_group")
        feedback.drop_index("feedback_by_user")
        feedback.add_column(sa.Column("published", sa.Boolean, nullable=False, server_default=sa.true()))
    owed = sa.select(_outbox.c.event_id)
    op.execute(_feedback.update().where(_feedback.c.event_id.in_(owed)).values(published=False))
    with op.batch_alter_table("feedback") as feedback:
        feedback.alter_column("published", server_default=None)
        feedback.drop_column("sequence")
    op.drop_table("shown_groups")
    op.drop_table("feedback_outbox")
    op.drop_table("feedback_outbox_keys")
