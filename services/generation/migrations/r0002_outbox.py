"""Groups get places in their user's order, events an outbox of their own, and claims beats in place of a time.

A group that was stored before its event was acknowledged owes it from now on: the relay publishes it.
"""

from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_rounds = sa.table("rounds", *map(sa.column, ("group_id", "state", "owner", "event")))
_groups = sa.table("groups", *map(sa.column, ("group_id", "user_id", "sequence", "create_time_us")))
_keys = sa.table("groups_outbox_keys", *map(sa.column, ("key", "last_sequence", "holder", "beats")))
_OWED = ("key", "sequence", "event_id", "event_type", "value", "traceparent", "add_time_us", "refusal")
_outbox = sa.table("groups_outbox", *map(sa.column, _OWED))


def upgrade() -> None:
    op.create_table(
        "groups_outbox_keys",
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "groups_outbox",
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("event_id", sa.String(36), nullable=False, unique=True),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(55), nullable=False),
        sa.Column("add_time_us", sa.BigInteger, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
    )
    with op.batch_alter_table("groups") as groups:
        groups.add_column(sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"))
        groups.drop_index("groups_by_user")
    _count()
    with op.batch_alter_table("groups") as groups:
        groups.alter_column("sequence", server_default=None)
        groups.create_index("groups_by_user", ["user_id", "sequence"], unique=True)
    _owe()
    with op.batch_alter_table("rounds") as rounds:
        # Any number is a count to begin with, and going back, any count is a time long past.
        rounds.alter_column("lease_until_us", new_column_name="beats")
    is_running = sa.text("state = 'running'")
    op.create_index("rounds_running", "rounds", ["state"], sqlite_where=is_running, postgresql_where=is_running)


def _count() -> None:
    """A group's place is what the list of groups went by until now: its time, then its id."""
    place = sa.func.row_number().over(
        partition_by=_groups.c.user_id, order_by=(_groups.c.create_time_us, _groups.c.group_id)
    )
    counted = sa.select(_groups.c.group_id, place.label("place")).subquery()
    here = sa.select(counted.c.place).where(counted.c.group_id == _groups.c.group_id).scalar_subquery()
    op.execute(_groups.update().values(sequence=here))
    last = sa.select(_groups.c.user_id, sa.func.max(_groups.c.sequence), sa.literal(""), sa.literal(0))
    op.execute(
        _keys.insert().from_select(["key", "last_sequence", "holder", "beats"], last.group_by(_groups.c.user_id))
    )


def _owe() -> None:
    stored = sa.select(_groups, _rounds.c.event).join(_rounds, _rounds.c.group_id == _groups.c.group_id)
    connection = op.get_bind()
    for group in connection.execute(stored.where(_rounds.c.state == "stored")).all():
        connection.execute(
            _outbox.insert().values(
                key=group.user_id,
                sequence=group.sequence,
                event_id=str(uuid5(UUID(group.group_id), "GroupGenerated")),
                event_type="perfusion.v1.GroupGenerated",
                value=group.event,
                traceparent="",
                add_time_us=group.create_time_us,
                refusal="",
            )
        )
    op.execute(_rounds.update().where(_rounds.c.state == "stored").values(state="done", owner=""))


def downgrade() -> None:
    op.drop_index("rounds_running", "rounds")
    with op.batch_alter_table("rounds") as rounds:
        rounds.alter_column("beats", new_column_name="lease_until_us")
    owed = sa.select(_groups.c.group_id, _outbox.c.value).join(
        _outbox, (_outbox.c.key == _groups.c.user_id) & (_outbox.c.sequence == _groups.c.sequence)
    )
    connection = op.get_bind()
    for group in connection.execute(owed).all():
        of_group = _rounds.update().where(_rounds.c.group_id == group.group_id)
        connection.execute(of_group.values(state="stored", event=group.value))
    with op.batch_alter_table("groups") as groups:
        groups.drop_index("groups_by_user")
        groups.drop_column("sequence")
        groups.create_index("groups_by_user", ["user_id", "create_time_us", "group_id"])
    op.drop_table("groups_outbox")
    op.drop_table("groups_outbox_keys")
