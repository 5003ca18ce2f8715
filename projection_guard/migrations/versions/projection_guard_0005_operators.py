"""What operators need: bulk actions, and the request behind an audited action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import on_this_database

revision = "projection_guard_0005"
down_revision = "projection_guard_0004"
branch_labels = None
depends_on = None

OPEN = "resolved_at IS NULL"
FAILURES = (
    ("ix_projection_failures_of", ["projection_name", "failed_at", "id"], None),
    ("ix_projection_failures_open_newest", ["failed_at", "id"], OPEN),
    ("ix_projection_failures_open", ["projection_name", "failed_at", "id"], OPEN),
    ("ix_projection_failures_open_by_stream", ["projection_name", "stream_id", "failed_at", "id"], OPEN),
    ("ix_projection_failures_open_by_error", ["projection_name", "error_type", "failed_at", "id"], OPEN),
    ("ix_projection_failures_open_by_type", ["projection_name", "event_type", "failed_at", "id"], OPEN),
    ("ix_projection_failures_exhausted", ["projection_name", "failed_at", "id"], f"{OPEN} AND next_retry_at IS NULL"),
    (
        "ix_projection_failures_open_by_fingerprint",
        ["projection_name", "fingerprint", "failed_at", "id", "next_retry_at"],
        OPEN,
    ),
)
AUDIT = (
    ("ix_projection_audit_log_action_id", ["projection_name", "action_id"]),
    ("ix_projection_audit_log_actor", ["actor", "id"]),
    ("ix_projection_audit_log_action", ["action", "id"]),
    ("ix_projection_audit_log_failure", ["failure_id", "id"]),
)


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.add_column("projection_audit_log", sa.Column("request_id", sa.String(length=255), nullable=True))
    for name, columns in AUDIT:
        here.create_index(name, "projection_audit_log", columns, unique=False)
    for name, columns, where in FAILURES:
        predicate = None if where is None else sa.text(where)
        here.create_index(
            name,
            "projection_failures",
            columns,
            unique=False,
            postgresql_where=predicate,
            sqlite_where=predicate,
        )
    here.drop_index("ix_projection_failures_open_stream", table_name="projection_failures")  # the start of by_stream
    here.drop_index("ix_projection_failures_newest", table_name="projection_failures")
    here.create_table(
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
    here.create_index(
        "ix_projection_bulk_actions_unfinished",
        "projection_bulk_actions",
        ["confirmed_at"],
        unique=False,
        postgresql_where=sa.text("confirmed_at IS NOT NULL AND finished_at IS NULL"),
        sqlite_where=sa.text("confirmed_at IS NOT NULL AND finished_at IS NULL"),
    )
    here.create_index(
        "ix_projection_bulk_actions_newest", "projection_bulk_actions", ["created_at", "id"], unique=False
    )


def downgrade() -> None:
    """Take that back."""
    here = on_this_database(op)
    here.drop_table("projection_bulk_actions")
    here.create_index("ix_projection_failures_newest", "projection_failures", ["failed_at", "id"], unique=False)
    here.create_index(
        "ix_projection_failures_open_stream",
        "projection_failures",
        ["projection_name", "stream_id"],
        unique=False,
        postgresql_where=sa.text(OPEN),
        sqlite_where=sa.text(OPEN),
    )
    for name, _, _ in FAILURES:
        here.drop_index(name, table_name="projection_failures")
    for name, _ in AUDIT:
        here.drop_index(name, table_name="projection_audit_log")
    here.drop_column("projection_audit_log", "request_id")
