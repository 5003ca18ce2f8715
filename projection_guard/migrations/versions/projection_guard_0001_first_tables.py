"""The first tables: what pushed projections need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from projection_guard.migrations._mysql import MYSQL, Operations, on_this_database

revision = "projection_guard_0001"
down_revision = None
branch_labels = ("projection_guard",)
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    here = on_this_database(op)
    here.create_table(
        "projection_applied_events",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("stream_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=True),
        sa.Column("how", sa.String(length=16), server_default=sa.text("'applied'"), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rolled_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "event_id"),
    )
    here.create_index(
        "ix_projection_applied_events_new",
        "projection_applied_events",
        ["projection_name"],
        unique=False,
        postgresql_where=sa.text("NOT rolled_up"),
        sqlite_where=sa.text("rolled_up = 0"),
    )
    here.create_index(
        "ix_projection_applied_events_old",
        "projection_applied_events",
        ["applied_at"],
        unique=False,
        postgresql_where=sa.text("rolled_up"),
        sqlite_where=sa.text("rolled_up = 1"),
    )
    here.create_table(
        "projection_attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("failure_id", sa.Uuid(), nullable=False),
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("gate", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("error_type", sa.String(length=255), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    here.create_index("ix_projection_attempts_failure", "projection_attempts", ["failure_id", "id"], unique=False)
    here.create_index("ix_projection_attempts_recent", "projection_attempts", ["projection_name", "id"], unique=False)
    here.create_table(
        "projection_audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("failure_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("action_id", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    here.create_index(
        "ix_projection_audit_log_projection", "projection_audit_log", ["projection_name", "id"], unique=False
    )
    here.create_table(
        "projection_checkpoints",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("last_event_id", sa.String(length=255), nullable=True),
        sa.Column("last_event_type", sa.String(length=255), nullable=True),
        sa.Column("last_event_sequence", sa.BigInteger(), nullable=True),
        sa.Column("checkpoint_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("events_processed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name"),
    )
    here.create_table(
        "projection_failures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=True),
        sa.Column("stream_id", sa.String(length=255), nullable=True),
        sa.Column("event_payload", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("error_type", sa.String(length=255), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution_method", sa.String(length=32), nullable=True),
        sa.Column("resolved_by", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    here.create_index(
        "ix_projection_failures_due",
        "projection_failures",
        ["projection_name", "next_retry_at"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL AND next_retry_at IS NOT NULL"),
        sqlite_where=sa.text("resolved_at IS NULL AND next_retry_at IS NOT NULL"),
    )
    here.create_index("ix_projection_failures_newest", "projection_failures", ["failed_at", "id"], unique=False)
    here.create_index(
        "ix_projection_failures_open_stream",
        "projection_failures",
        ["projection_name", "stream_id"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
        sqlite_where=sa.text("resolved_at IS NULL"),
    )
    here.create_index(
        "uq_projection_failures_open",
        "projection_failures",
        ["projection_name", "event_id"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
        sqlite_where=sa.text("resolved_at IS NULL"),
    )
    here.create_table(
        "projection_health_metrics",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("total_events_processed", sa.BigInteger(), nullable=False),
        sa.Column("total_failures", sa.BigInteger(), nullable=False),
        sa.Column("active_failures", sa.BigInteger(), nullable=False),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("avg_processing_time_ms", sa.Float(), nullable=True),
        sa.Column("lag_seconds", sa.Float(), nullable=True),
        sa.Column("health_status", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name"),
    )
    here.create_table(
        "projection_parked_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("gate", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=255), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=True),
        sa.Column("stream_id", sa.String(length=255), nullable=True),
        sa.Column("event_payload", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    here.create_index(
        "ix_projection_parked_events_gate", "projection_parked_events", ["projection_name", "gate", "id"], unique=False
    )
    here.create_index(
        "uq_projection_parked_events", "projection_parked_events", ["projection_name", "event_id"], unique=True
    )
    here.create_table(
        "projection_states",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), server_default=sa.text("'active'"), nullable=False),
        sa.Column("state_after", sa.String(length=16), nullable=True),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mode", sa.String(length=16), server_default=sa.text("'pushed'"), nullable=False),
        sa.Column("ordering", sa.String(length=16), nullable=False),
        sa.Column("held_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outage_began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_probes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name"),
    )
    here.create_table(
        "projection_streams",
        sa.Column("projection_name", sa.String(length=255), nullable=False),
        sa.Column("stream_id", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("tainted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("tainted_reason", sa.String(length=255), nullable=True),
        sa.Column("drain_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("projection_name", "stream_id"),
    )
    if op.get_context().dialect.name == "postgresql":
        # room for HOT updates; `postgresql_with` of a table is unknown to SQLAlchemy 2.0
        op.execute("ALTER TABLE projection_streams SET (fillfactor = 70)")
    here.create_index(
        "ix_projection_streams_blocked",
        "projection_streams",
        ["projection_name", "stream_id"],
        unique=False,
        postgresql_where=sa.text("blocked"),
        sqlite_where=sa.text("blocked = 1"),
    )
    here.create_index(
        "ix_projection_streams_drain",
        "projection_streams",
        ["projection_name", "drain_after"],
        unique=False,
        postgresql_where=sa.text("drain_after IS NOT NULL"),
        sqlite_where=sa.text("drain_after IS NOT NULL"),
    )
    here.create_index(
        "ix_projection_streams_tainted",
        "projection_streams",
        ["projection_name", "stream_id"],
        unique=False,
        postgresql_where=sa.text("tainted"),
        sqlite_where=sa.text("tainted = 1"),
    )
    _make_audit_log_append_only()
    if op.get_context().dialect.name in MYSQL:
        _make_generations(here)


def downgrade() -> None:
    """Take that back."""
    op.drop_table("projection_streams")
    op.drop_table("projection_states")
    op.drop_table("projection_parked_events")
    op.drop_table("projection_health_metrics")
    op.drop_table("projection_failures")
    op.drop_table("projection_checkpoints")
    op.drop_table("projection_audit_log")
    op.drop_table("projection_attempts")
    op.drop_table("projection_applied_events")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION projection_audit_log_is_append_only()")
    if op.get_context().dialect.name in MYSQL:
        op.drop_table("projection_generations")


def _make_generations(here: Operations) -> None:
    """Make what the barrier needs where nobody may look who holds a lock; the first row is there from the beginning."""
    here.create_table(
        "projection_generations",
        sa.Column("generation", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.PrimaryKeyConstraint("generation"),
    )
    op.execute(
        "INSERT INTO projection_generations (generation) VALUES (1) ON DUPLICATE KEY UPDATE generation = generation"
    )


def _make_audit_log_append_only() -> None:
    """Let the database itself refuse to change or delete what is written there."""
    refusal = "projection_audit_log is append-only: its rows cannot be changed or deleted"
    if op.get_context().dialect.name in MYSQL:
        for action in ("UPDATE", "DELETE"):
            name = f"projection_audit_log_no_{action.lower()}"
            op.execute(f"DROP TRIGGER IF EXISTS {name}")  # an upgrade that broke off may have left it
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {action} ON projection_audit_log FOR EACH ROW "
                f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{refusal}'"
            )
        return
    if op.get_context().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER projection_audit_log_no_{action.lower()} BEFORE {action} ON projection_audit_log "
                f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
        # INSERT OR REPLACE deletes a row without asking the trigger for DELETE
        op.execute(
            "CREATE TRIGGER projection_audit_log_no_replace BEFORE INSERT ON projection_audit_log "
            "WHEN EXISTS (SELECT 1 FROM projection_audit_log WHERE id = NEW.id) "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION projection_audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
    )
    for action, level in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER projection_audit_log_no_{action.lower()} BEFORE {action} ON projection_audit_log "
            f"FOR EACH {level} EXECUTE FUNCTION projection_audit_log_is_append_only()"
        )
