"""The span of a failed call, so that retries can be linked to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0009"
down_revision = "projection_guard_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.add_column("projection_attempts", sa.Column("trace", sa.String(length=55), nullable=True))


def downgrade() -> None:
    """Take that back."""
    op.drop_column("projection_attempts", "trace")
