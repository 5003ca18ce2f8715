"""The three tables that are a contract with people's dashboards: failures, checkpoints, health metrics.

These columns, no more, no fewer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Float, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import LongText
from .base import Model, Payload

__all__ = ["ProjectionCheckpoint", "ProjectionFailure", "ProjectionHealthMetrics"]


class ProjectionFailure(Model):
    """An event that a projection could not apply; unresolved without `next_retry_at` means exhausted."""

    __tablename__ = "projection_failures"

    id: Mapped[UUID] = mapped_column(primary_key=True, doc="The failure's id.")
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    event_payload: Mapped[Any | None] = mapped_column(Payload)
    projection_name: Mapped[str] = mapped_column(String(255))
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(LongText)
    error_traceback: Mapped[str | None] = mapped_column(LongText)
    fingerprint: Mapped[str] = mapped_column(String(64))
    retry_count: Mapped[int] = mapped_column(Integer, doc="Retries made so far; the first delivery is none.")
    max_retries: Mapped[int] = mapped_column(
        Integer, doc="Retries that the policy allowed when it failed; 2147483647: no limit."
    )
    failed_at: Mapped[datetime] = mapped_column(doc="When it failed first.")
    last_retry_at: Mapped[datetime | None] = mapped_column(doc="When it was retried last.")
    next_retry_at: Mapped[datetime | None] = mapped_column(
        doc="When it is retried next; null while unresolved: exhausted, it waits for a person."
    )
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None] = mapped_column(doc="When it ended; null: unresolved.")
    resolution_method: Mapped[str | None] = mapped_column(
        String(32),
        doc="How it ended: `auto_retry`; `manual_retry`, `_replay`, `_skip`, `_fix` or `_reset`.",
    )
    resolved_by: Mapped[str | None] = mapped_column(String(255), doc="Who ended it; null where a retry did.")
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


_OPEN = ProjectionFailure.resolved_at.is_(None)
_DUE = _OPEN & ProjectionFailure.next_retry_at.is_not(None)

Index(
    "uq_projection_failures_open",
    ProjectionFailure.projection_name,
    ProjectionFailure.event_id,
    unique=True,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
Index(
    "ix_projection_failures_due",
    ProjectionFailure.projection_name,
    ProjectionFailure.next_retry_at,
    postgresql_where=_DUE,
    sqlite_where=_DUE,
)
Index(
    "ix_projection_failures_open_newest",
    ProjectionFailure.failed_at,
    ProjectionFailure.id,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
Index(
    "ix_projection_failures_of",
    ProjectionFailure.projection_name,
    ProjectionFailure.failed_at,
    ProjectionFailure.id,
)
# Lists of open failures are read from these in order, one projection after the other: no page sorts or skips others.
for _name, _columns, _where in (
    ("open", (), _OPEN),
    ("open_by_stream", (ProjectionFailure.stream_id,), _OPEN),
    ("open_by_error", (ProjectionFailure.error_type,), _OPEN),
    ("open_by_type", (ProjectionFailure.event_type,), _OPEN),
    ("exhausted", (), _OPEN & ProjectionFailure.next_retry_at.is_(None)),
):
    Index(
        f"ix_projection_failures_{_name}",
        ProjectionFailure.projection_name,
        *_columns,
        ProjectionFailure.failed_at,
        ProjectionFailure.id,
        postgresql_where=_where,
        sqlite_where=_where,
    )
Index(
    "ix_projection_failures_open_by_fingerprint",
    ProjectionFailure.projection_name,
    ProjectionFailure.fingerprint,
    ProjectionFailure.failed_at,
    ProjectionFailure.id,
    ProjectionFailure.next_retry_at,  # groups are counted from the index alone
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)
# What became of a stream's events, and of each of them, after their failures had ended.
_ENDED = ProjectionFailure.resolved_at.is_not(None)
Index(
    "ix_projection_failures_ended_by_stream",
    ProjectionFailure.projection_name,
    ProjectionFailure.stream_id,
    ProjectionFailure.resolved_at,
    postgresql_where=_ENDED,
    sqlite_where=_ENDED,
)
Index(
    "ix_projection_failures_ended",
    ProjectionFailure.projection_name,
    ProjectionFailure.event_id,
    postgresql_where=_ENDED,
    sqlite_where=_ENDED,
)


class ProjectionCheckpoint(Model):
    """How far a projection has come; pushed: the highest sequence applied, failed, parked or skipped."""

    __tablename__ = "projection_checkpoints"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    last_event_id: Mapped[str | None] = mapped_column(String(255), doc="The event at `last_event_sequence`.")
    last_event_type: Mapped[str | None] = mapped_column(String(255), doc="Its type.")
    last_event_sequence: Mapped[int | None] = mapped_column(
        BigInteger, doc="How far it has come; never falls, except by a reset."
    )
    checkpoint_at: Mapped[datetime] = mapped_column(doc="When that was.")
    events_processed: Mapped[int] = mapped_column(BigInteger, doc="Events applied so far.")
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ProjectionHealthMetrics(Model):
    """Counters, and what the judge said last. `active_failures` equals the unresolved rows in every snapshot."""

    __tablename__ = "projection_health_metrics"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    total_events_processed: Mapped[int] = mapped_column(
        BigInteger, doc="Events applied so far; at most one second late."
    )
    total_failures: Mapped[int] = mapped_column(BigInteger, doc="Failures so far, resolved ones too.")
    active_failures: Mapped[int] = mapped_column(
        BigInteger, doc="Unresolved rows of `projection_failures`, in the same transaction."
    )
    last_failure_at: Mapped[datetime | None] = mapped_column(doc="When an event failed last.")
    last_success_at: Mapped[datetime | None] = mapped_column(doc="When an event was applied last.")
    avg_processing_time_ms: Mapped[float | None] = mapped_column(
        Float, doc="How long a call of the handler takes, in milliseconds, on the average."
    )
    lag_seconds: Mapped[float | None] = mapped_column(
        Float, doc="How old the oldest event is that waits, in seconds; 0: none waits."
    )
    health_status: Mapped[str] = mapped_column(
        String(32), doc="`healthy`, `degraded`, `critical` or `offline`, as judged last."
    )
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
