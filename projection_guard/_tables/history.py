"""What happened: attempts, the audit log, requests that were answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Float, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import BigIdentity, LongText
from .base import Model, Payload

__all__ = ["ProjectionAttempt", "ProjectionAuditEntry", "ProjectionRequest"]


class ProjectionAttempt(Model):
    """One failed call of a handler: the history of a failure. `trace` is the W3C `traceparent` of its span."""

    __tablename__ = "projection_attempts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True)
    failure_id: Mapped[UUID]
    projection_name: Mapped[str] = mapped_column(String(255))
    gate: Mapped[str] = mapped_column(String(255))
    number: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[str] = mapped_column(String(16))
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(LongText)
    fingerprint: Mapped[str] = mapped_column(String(64))
    duration_ms: Mapped[float | None] = mapped_column(Float)
    trace: Mapped[str | None] = mapped_column(String(55))
    attempted_at: Mapped[datetime]


Index("ix_projection_attempts_failure", ProjectionAttempt.failure_id, ProjectionAttempt.id)
Index("ix_projection_attempts_recent", ProjectionAttempt.projection_name, ProjectionAttempt.id)


class ProjectionAuditEntry(Model):
    """Who did what to a projection, and when. A trigger of the database refuses to change or delete a row.

    `action_id` tells whoever lost the reply of a COMMIT that his action is on record.
    """

    __tablename__ = "projection_audit_log"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(255))
    action: Mapped[str] = mapped_column(String(32))
    projection_name: Mapped[str] = mapped_column(String(255))
    failure_id: Mapped[UUID | None]
    note: Mapped[str | None] = mapped_column(LongText)
    details: Mapped[Any | None] = mapped_column(Payload)
    action_id: Mapped[str | None] = mapped_column(String(32))
    request_id: Mapped[str | None] = mapped_column(String(255))


Index("ix_projection_audit_log_projection", ProjectionAuditEntry.projection_name, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_action_id", ProjectionAuditEntry.projection_name, ProjectionAuditEntry.action_id)
Index("ix_projection_audit_log_actor", ProjectionAuditEntry.actor, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_action", ProjectionAuditEntry.action, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_failure", ProjectionAuditEntry.failure_id, ProjectionAuditEntry.id)


class ProjectionRequest(Model):
    """A request that carried a key of idempotency: taken by who holds `token`, until `runs_until`; then its answer.

    `digest` tells what was asked. `status` is null while it is being answered.
    """

    __tablename__ = "projection_requests"

    actor: Mapped[str] = mapped_column(String(255), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(32))
    runs_until: Mapped[datetime]
    status: Mapped[int | None] = mapped_column(Integer)
    content: Mapped[Any | None] = mapped_column(Payload)
    created_at: Mapped[datetime]


Index("ix_projection_requests_oldest", ProjectionRequest.created_at)
