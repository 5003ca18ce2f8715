"""Samples: how each projection stood, minute by minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0011"
down_revision = "projection_guard_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_samples",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("events_processed", sa.BigInteger(), nullable=False),
        sa.Column("total_failures", sa.BigInteger(), nullable=False),
        sa.Column("active_failures", sa.BigInteger(), nullable=False),
        sa.Column("parked_events", sa.BigInteger(), nullable=False),
        sa.Column("lag_seconds", sa.Float(), nullable=False),
        sa.Column("lag_events", sa.BigInteger(), nullable=False),
        sa.Column("avg_processing_time_ms", sa.Float(), nullable=True),
        sa.Column("health_status", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "minute"),
    )
    here.create_index("ix_projection_samples_minute", "projection_samples", ["minute"], unique=False)


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_samples_minute", table_name="projection_samples")
    here.drop_table("projection_samples")
