"""Studies in which experts rate pictures: pictures, raters, their tasks, what was shown and answered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "studio_studies",
        sa.Column("study_id", sa.String(64), primary_key=True),
        sa.Column("design_sha256", sa.String(64), nullable=False),
        sa.Column("protocol", sa.JSON, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("close_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "studio_study_pictures",
        sa.Column("study_id", sa.String(64), primary_key=True),
        sa.Column("picture", sa.String(64), primary_key=True),
        sa.Column("png", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "studio_study_raters",
        sa.Column("study_id", sa.String(64), primary_key=True),
        sa.Column("rater_id", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("begin_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_study_raters_by_key", "studio_study_raters", ["key"], unique=True)
    op.create_table(
        "studio_study_tasks",
        sa.Column("study_id", sa.String(64), primary_key=True),
        sa.Column("rater_id", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("task_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("picture", sa.String(64), nullable=False),
    )
    op.create_table(
        "studio_study_views",
        sa.Column("view_id", sa.String(36), primary_key=True),
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("rater_id", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("show_time_us", sa.BigInteger, nullable=False),
        sa.Column("dwell_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("studio_study_views_by_task", "studio_study_views", ["study_id", "rater_id", "number"])
    op.create_table(
        "studio_study_answers",
        sa.Column("study_id", sa.String(64), primary_key=True),
        sa.Column("rater_id", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("view_id", sa.String(36), nullable=False),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("dwell_ms", sa.BigInteger, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("answers", "views", "tasks", "raters", "pictures"):
        op.drop_table(f"studio_study_{table}")
    op.drop_table("studio_studies")
