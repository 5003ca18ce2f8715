"""Requests that carry a key of idempotency, and what they were answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0006"
down_revision = "projection_guard_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_requests",
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("runs_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("content", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("actor", "idempotency_key"),
    )
    here.create_index("ix_projection_requests_oldest", "projection_requests", ["created_at"], unique=False)


def downgrade() -> None:
    """Take that back."""
    op.drop_table("projection_requests")
