"""What followed projections need: partitions with their cursors, ranges that were skipped, the change of mode."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0002"
down_revision = "projection_guard_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_partitions",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cursor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_event_id", sa.String(length=255), nullable=True),
        sa.Column("last_event_type", sa.String(length=255), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wanted_by", sa.String(length=255), nullable=True),
        sa.Column("wanted_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hand_first", sa.BigInteger(), nullable=True),
        sa.Column("hand_last", sa.BigInteger(), nullable=True),
        sa.Column("hand_is_lone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "partition"),
    )
    here.create_table(
        "projection_skipped_ranges",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("given_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("skipped_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "first_sequence"),
    )
    here.add_column("projection_states", sa.Column("rescan_until", sa.BigInteger(), nullable=True))
    here.add_column("projection_states", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    here.create_index(
        "ix_projection_parked_events_order",
        "projection_parked_events",
        ["projection_name", "gate", "event_sequence", "id"],
        unique=False,
    )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_index("ix_projection_parked_events_order", table_name="projection_parked_events")
    here.drop_column("projection_states", "pruned_at")
    here.drop_column("projection_states", "rescan_until")
    here.drop_table("projection_skipped_ranges")
    here.drop_table("projection_partitions")
