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

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True, doc="Counts up.")
    failure_id: Mapped[UUID] = mapped_column(doc="The failure that it belongs to.")
    projection_name: Mapped[str] = mapped_column(String(255))
    gate: Mapped[str] = mapped_column(String(255), doc="The stream's gate row, as in `projection_streams`.")
    number: Mapped[int] = mapped_column(Integer, doc="Which call of the handler it was; 1: the first delivery.")
    verdict: Mapped[str] = mapped_column(
        String(16), doc="What it led to: `retry`, `transient`, `exhausted` or `permanent`."
    )
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(LongText)
    fingerprint: Mapped[str] = mapped_column(String(64))
    duration_ms: Mapped[float | None] = mapped_column(
        Float, doc="How long the call took, in milliseconds; null where it came to no end."
    )
    trace: Mapped[str | None] = mapped_column(String(55), doc="The W3C `traceparent` of its span.")
    attempted_at: Mapped[datetime] = mapped_column(doc="When it failed.")


Index("ix_projection_attempts_failure", ProjectionAttempt.failure_id, ProjectionAttempt.id)
Index("ix_projection_attempts_recent", ProjectionAttempt.projection_name, ProjectionAttempt.id)


class ProjectionAuditEntry(Model):
    """Who did what to a projection, and when. A trigger of the database refuses to change or delete a row.

    `action_id` tells whoever lost the reply of a COMMIT that his action is on record.
    """

    __tablename__ = "projection_audit_log"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True, doc="Counts up.")
    at: Mapped[datetime] = mapped_column(doc="When.")
    actor: Mapped[str] = mapped_column(String(255), doc="Who did it.")
    action: Mapped[str] = mapped_column(String(32), doc="What was done: `retry`, `pause`, `reset`, `replay` and so on.")
    projection_name: Mapped[str] = mapped_column(String(255), doc="The projection's name; `*` for several at once.")
    failure_id: Mapped[UUID | None] = mapped_column(doc="The failure that it was done to, if it was one.")
    note: Mapped[str | None] = mapped_column(LongText)
    details: Mapped[Any | None] = mapped_column(Payload, doc="What was changed: `before` and `after`, as JSON.")
    action_id: Mapped[str | None] = mapped_column(
        String(32), doc="Tells whoever lost the reply of a COMMIT that the act is on record."
    )
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

    actor: Mapped[str] = mapped_column(String(255), primary_key=True, doc="Whose request it was.")
    idempotency_key: Mapped[str] = mapped_column(String(255), primary_key=True, doc="The request's `Idempotency-Key`.")
    digest: Mapped[str] = mapped_column(String(64), doc="Tells what was asked.")
    token: Mapped[str] = mapped_column(String(32), doc="Whoever answers it.")
    runs_until: Mapped[datetime] = mapped_column(doc="Until when nobody else does.")
    status: Mapped[int | None] = mapped_column(Integer, doc="The answer's status; null while it is being answered.")
    content: Mapped[Any | None] = mapped_column(Payload, doc="The answer, as JSON.")
    created_at: Mapped[datetime]


Index("ix_projection_requests_oldest", ProjectionRequest.created_at)
