"""A rebuild that is spread over an executor says into how many slices the streams are divided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0015"
down_revision = "projection_guard_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.add_column("projection_replays", sa.Column("slices", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_column("projection_replays", "slices")
