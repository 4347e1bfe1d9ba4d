"""Groups say how their request was served and with how much variety, candidates which release drew them.

What was not kept stays unknown: NULL. So a service of the revision before may go on writing beside a newer one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("groups") as groups:
        groups.add_column(sa.Column("variety", sa.Float(53), nullable=True))
        groups.add_column(sa.Column("arm", sa.String(16), nullable=True))
        groups.add_column(sa.Column("propensity", sa.Float(53), nullable=True))
        groups.add_column(sa.Column("trial_release", sa.BigInteger, nullable=True))
    with op.batch_alter_table("candidates") as candidates:
        candidates.add_column(sa.Column("release", sa.BigInteger, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("candidates") as candidates:
        candidates.drop_column("release")
    with op.batch_alter_table("groups") as groups:
        for name in ("variety", "arm", "propensity", "trial_release"):
            groups.drop_column(name)
