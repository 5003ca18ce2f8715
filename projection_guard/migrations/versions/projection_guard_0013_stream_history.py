"""One stream in one projection: its applied events, and its failures that have ended, are found by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0013"
down_revision = "projection_guard_0012"
branch_labels = None
depends_on = None

ENDED = "resolved_at IS NOT NULL"
INDEXES = (
    (
        "ix_projection_applied_events_stream",
        "projection_applied_events",
        ["projection_name", "stream_id", "applied_at"],
        "stream_id != ''",
    ),
    (
        "ix_projection_failures_ended_by_stream",
        "projection_failures",
        ["projection_name", "stream_id", "resolved_at"],
        ENDED,
    ),
    ("ix_projection_failures_ended", "projection_failures", ["projection_name", "event_id"], ENDED),
)


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    for name, table, columns, where in INDEXES:
        predicate = sa.text(where)
        here.create_index(
            name,
            table,
            columns,
            unique=False,
            if_not_exists=True,  # made before, without a lock: docs/migrations.md
            postgresql_where=predicate,
            sqlite_where=predicate,
        )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    for name, table, _, _ in INDEXES:
        here.drop_index(name, table_name=table)
