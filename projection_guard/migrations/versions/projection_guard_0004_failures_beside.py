"""Events that fail where a read model is built beside the live one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0004"
down_revision = "projection_guard_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.add_column(
        "projection_replays", sa.Column("max_failures", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    here.create_table(
        "projection_set_aside_events",
        sa.Column("replay_id", sa.Uuid(), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gate", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("stream_id", sa.String(length=255), nullable=True),
        sa.Column("error_type", sa.String(length=255), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("delay_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("replay_id", "event_sequence"),
    )
    here.create_index(
        "ix_projection_set_aside_events_failed",
        "projection_set_aside_events",
        ["replay_id", "gate"],
        unique=False,
        postgresql_where=sa.text("error_type IS NOT NULL"),
        sqlite_where=sa.text("error_type IS NOT NULL"),
    )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_set_aside_events_failed", table_name="projection_set_aside_events")
    here.drop_table("projection_set_aside_events")
    here.drop_column("projection_replays", "max_failures")
