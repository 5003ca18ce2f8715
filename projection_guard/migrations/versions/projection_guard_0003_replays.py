"""Replays and rebuilds: durable jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0003"
down_revision = "projection_guard_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_replays",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("wanted", sa.String(length=16), server_default=sa.text("'run'"), nullable=False),
        sa.Column("from_sequence", sa.BigInteger(), nullable=True),
        sa.Column("to_sequence", sa.BigInteger(), nullable=True),
        sa.Column("stream_id", sa.String(length=255), nullable=True),
        sa.Column("skip_failed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("events_per_second", sa.Float(), nullable=True),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("begins_after", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("events_replayed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("events_skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("events_failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("built_into", sa.String(length=63), nullable=True),
        sa.Column("compared", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    here.create_index(
        "uq_projection_replays_unfinished",
        "projection_replays",
        ["projection_name"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    here.create_index("ix_projection_replays_newest", "projection_replays", ["created_at", "id"], unique=False)


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_replays_newest", table_name="projection_replays")
    here.drop_index("uq_projection_replays_unfinished", table_name="projection_replays")
    here.drop_table("projection_replays")
