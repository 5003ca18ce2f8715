"""Since when the longest parked event of a projection waits is found by an index: the judge asks again and again."""

from __future__ import annotations

from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0014"
down_revision = "projection_guard_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_index(
        "ix_projection_parked_events_oldest",
        "projection_parked_events",
        ["projection_name", "parked_at"],
        unique=False,
        if_not_exists=True,  # made before, without a lock: docs/migrations.md
    )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_parked_events_oldest", table_name="projection_parked_events")
