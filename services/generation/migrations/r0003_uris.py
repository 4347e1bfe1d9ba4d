"""Candidates can be found by their picture, which a sweep of the object store does."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("candidates_by_uri", "candidates", ["uri"])


def downgrade() -> None:
    op.drop_index("candidates_by_uri", "candidates")
