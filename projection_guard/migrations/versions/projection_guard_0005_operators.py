"""What operators need: bulk actions, and the request behind an audited action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "projection_guard_0005"
down_revision = "projection_guard_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.add_column("projection_audit_log", sa.Column("request_id", sa.String(length=255), nullable=True))
    op.create_index(
        "ix_projection_audit_log_action_id", "projection_audit_log", ["projection_name", "action_id"], unique=False
    )
    op.create_table(
        "projection_bulk_actions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("strategy", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("wanted", sa.String(length=16), server_default=sa.text("'run'"), nullable=False),
        sa.Column("projection_name", sa.String(length=255), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("stream_id", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=True),
        sa.Column("failed_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("projections", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("matched", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("confirmed_by", sa.String(length=255), nullable=True),
        sa.Column("request_id", sa.String(length=255), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("position_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("position_id", sa.Uuid(), nullable=True),
        sa.Column("hand_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hand_id", sa.Uuid(), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_projection_bulk_actions_unfinished",
        "projection_bulk_actions",
        ["confirmed_at"],
        unique=False,
        postgresql_where=sa.text("confirmed_at IS NOT NULL AND finished_at IS NULL"),
        sqlite_where=sa.text("confirmed_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("ix_projection_bulk_actions_newest", "projection_bulk_actions", ["created_at", "id"], unique=False)


def downgrade() -> None:
    """Take that back."""
    op.drop_table("projection_bulk_actions")
    op.drop_index("ix_projection_audit_log_action_id", table_name="projection_audit_log")
    op.drop_column("projection_audit_log", "request_id")
