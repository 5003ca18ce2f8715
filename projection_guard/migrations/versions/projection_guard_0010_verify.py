"""Verifying a read model: what a job compares, and what its copy leaves out, by stream."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0010"
down_revision = "projection_guard_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.add_column("projection_replays", sa.Column("comparing", sa.JSON(none_as_null=True), nullable=True))
    here.create_index(
        "ix_projection_set_aside_events_gate",
        "projection_set_aside_events",
        ["replay_id", "gate", "event_sequence"],
        unique=False,
    )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_set_aside_events_gate", table_name="projection_set_aside_events")
    here.drop_column("projection_replays", "comparing")
