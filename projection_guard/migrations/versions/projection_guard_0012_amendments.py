"""Amendments: what a projection is given instead of an event of the log that it could not apply."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0012"
down_revision = "projection_guard_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_amendments",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=True),
        sa.Column("stream_id", sa.String(length=255), nullable=True),
        sa.Column("event_payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("original_payload", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("amended_by", sa.String(length=255), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("amended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failure_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "event_id"),
    )


def downgrade() -> None:
    """Take that back."""
    op.drop_table("projection_amendments")
