"""The guard's tables, as SQLAlchemy models. The Alembic revisions in `migrations/` create the same.

`projection_failures`, `projection_checkpoints` and `projection_health_metrics` are a contract with people's dashboards:
their columns are fixed. The others may gain columns between releases.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Boolean, Float, Index, Integer, MetaData, String, Text, Uuid, false, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ._dialect import BigIdentity, UtcDateTime

__all__ = [
    "ParkedEvent",
    "ProjectionAppliedEvent",
    "ProjectionAttempt",
    "ProjectionAuditEntry",
    "ProjectionBulkAction",
    "ProjectionCheckpoint",
    "ProjectionFailure",
    "ProjectionHealthMetrics",
    "ProjectionPartition",
    "ProjectionReplay",
    "ProjectionRequest",
    "ProjectionSkippedRange",
    "ProjectionState",
    "ProjectionStream",
    "SetAsideEvent",
    "metadata",
    "table_names",
]

metadata = MetaData()
_Payload = JSON(none_as_null=True)


class _Model(DeclarativeBase):
    metadata = metadata
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime(), UUID: Uuid(as_uuid=True), Any: _Payload}


class ProjectionFailure(_Model):
    """An event that a projection could not apply; unresolved without `next_retry_at` means exhausted."""

    __tablename__ = "projection_failures"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    event_payload: Mapped[Any | None] = mapped_column(_Payload)
    projection_name: Mapped[str] = mapped_column(String(255))
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(64))
    retry_count: Mapped[int] = mapped_column(Integer)
    max_retries: Mapped[int] = mapped_column(Integer)
    failed_at: Mapped[datetime]
    last_retry_at: Mapped[datetime | None]
    next_retry_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    resolution_method: Mapped[str | None] = mapped_column(String(32))
    resolved_by: Mapped[str | None] = mapped_column(String(255))
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


class ProjectionCheckpoint(_Model):
    """How far a projection has come; pushed: the highest sequence applied, failed, parked or skipped."""

    __tablename__ = "projection_checkpoints"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    last_event_id: Mapped[str | None] = mapped_column(String(255))
    last_event_type: Mapped[str | None] = mapped_column(String(255))
    last_event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    checkpoint_at: Mapped[datetime]
    events_processed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ProjectionHealthMetrics(_Model):
    """Counters, and what the judge said last. `active_failures` equals the unresolved rows in every snapshot."""

    __tablename__ = "projection_health_metrics"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    total_events_processed: Mapped[int] = mapped_column(BigInteger)
    total_failures: Mapped[int] = mapped_column(BigInteger)
    active_failures: Mapped[int] = mapped_column(BigInteger)
    last_failure_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    avg_processing_time_ms: Mapped[float | None] = mapped_column(Float)
    lag_seconds: Mapped[float | None] = mapped_column(Float)
    health_status: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ProjectionStream(_Model):
    """The gate of one (projection, stream): whoever applies an event of the stream holds this row.

    `stream_id` is the ordering key: the stream's id, the event's id where no order is kept, "" where the whole
    projection is one line. `blocked`: an unresolved failure or parked events. `drain_after`: set exactly while parked
    events wait with no unresolved failure before them.
    """

    __tablename__ = "projection_streams"
    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    stream_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    blocked: Mapped[bool] = mapped_column(Boolean, server_default=false())
    tainted: Mapped[bool] = mapped_column(Boolean, server_default=false())
    tainted_reason: Mapped[str | None] = mapped_column(String(255))
    drain_after: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    touched_at: Mapped[datetime]


Index(
    "ix_projection_streams_blocked",
    ProjectionStream.projection_name,
    ProjectionStream.stream_id,
    postgresql_where=ProjectionStream.blocked,
    sqlite_where=ProjectionStream.blocked == true(),
)
Index(
    "ix_projection_streams_tainted",
    ProjectionStream.projection_name,
    ProjectionStream.stream_id,
    postgresql_where=ProjectionStream.tainted,
    sqlite_where=ProjectionStream.tainted == true(),
)
Index(
    "ix_projection_streams_drain",
    ProjectionStream.projection_name,
    ProjectionStream.drain_after,
    postgresql_where=ProjectionStream.drain_after.is_not(None),
    sqlite_where=ProjectionStream.drain_after.is_not(None),
)


class ProjectionAppliedEvent(_Model):
    """An event that a pushed projection is done with: applied, skipped or mended by hand; kept for `dedupe_window`."""

    __tablename__ = "projection_applied_events"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    stream_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    how: Mapped[str] = mapped_column(String(16), server_default=text("'applied'"))
    applied_at: Mapped[datetime]
    rolled_up: Mapped[bool] = mapped_column(Boolean, server_default=false())


_ROLLED_UP = ProjectionAppliedEvent.rolled_up

Index(
    "ix_projection_applied_events_new",
    ProjectionAppliedEvent.projection_name,
    postgresql_where=~_ROLLED_UP,
    sqlite_where=~_ROLLED_UP,
)
Index(
    "ix_projection_applied_events_old",
    ProjectionAppliedEvent.applied_at,
    postgresql_where=_ROLLED_UP,
    sqlite_where=ProjectionAppliedEvent.rolled_up == true(),
)


class ParkedEvent(_Model):
    """An event that waits its turn: behind a failure of its stream, or for the end of a pause or an outage.

    `id` is given out under the gate's lock, so that it is the order of arrival within a stream. `attempts` counts calls
    that were begun while draining, so that an event which kills its process does not do so for ever.
    """

    __tablename__ = "projection_parked_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True)
    projection_name: Mapped[str] = mapped_column(String(255))
    gate: Mapped[str] = mapped_column(String(255))
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    event_payload: Mapped[Any | None] = mapped_column(_Payload)
    reason: Mapped[str] = mapped_column(String(32))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    parked_at: Mapped[datetime]


Index("uq_projection_parked_events", ParkedEvent.projection_name, ParkedEvent.event_id, unique=True)
Index("ix_projection_parked_events_gate", ParkedEvent.projection_name, ParkedEvent.gate, ParkedEvent.id)
Index(
    "ix_projection_parked_events_order",
    ParkedEvent.projection_name,
    ParkedEvent.gate,
    ParkedEvent.event_sequence,
    ParkedEvent.id,
)


class ProjectionState(_Model):
    """What a person wants of a projection, who and why; and, apart from it, the breaker's hold.

    `state_after`: what a projection that is being reset becomes when that has ended. `mode`: followed or pushed.
    `rescan_until`: up to there the log is compared with what was recorded while the projection was pushed. `pruned_at`:
    when applied events of it were last forgotten, so that such a comparison would not be sound any more.
    """

    __tablename__ = "projection_states"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), server_default=text("'active'"))
    state_after: Mapped[str | None] = mapped_column(String(16))
    actor: Mapped[str | None] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime]
    mode: Mapped[str] = mapped_column(String(16), server_default=text("'pushed'"))
    ordering: Mapped[str] = mapped_column(String(16))
    held_since: Mapped[datetime | None]
    outage_began_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    failed_probes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    rescan_until: Mapped[int | None] = mapped_column(BigInteger)
    pruned_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ProjectionPartition(_Model):
    """How far a followed projection has come in one part of its streams, and who follows there.

    Everything at or below `cursor` is applied, failed, parked or skipped. `lease_owner` is a token of one follower;
    `fence` counts its claims. `wanted_by`: a follower with less than its share asks the owner for this partition.
    `hand_first` to `hand_last` is the range that the owner has in hand, `hand_is_lone` one event tried by itself after
    somebody died in its range.
    """

    __tablename__ = "projection_partitions"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    cursor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_event_id: Mapped[str | None] = mapped_column(String(255))
    last_event_type: Mapped[str | None] = mapped_column(String(255))
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    wanted_by: Mapped[str | None] = mapped_column(String(255))
    wanted_until: Mapped[datetime | None]
    hand_first: Mapped[int | None] = mapped_column(BigInteger)
    hand_last: Mapped[int | None] = mapped_column(BigInteger)
    hand_is_lone: Mapped[bool] = mapped_column(Boolean, server_default=false())
    moved_at: Mapped[datetime]


class ProjectionSkippedRange(_Model):
    """Sequences of the log, both ends included, in which there was nothing. `given_up`: something may have come there.

    That is so only where the source was told to give up waiting for a transaction that was still open.
    """

    __tablename__ = "projection_skipped_ranges"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    first_sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    given_up: Mapped[bool] = mapped_column(Boolean, server_default=false())
    reason: Mapped[str] = mapped_column(String(255))
    skipped_at: Mapped[datetime]


class ProjectionReplay(_Model):
    """A replay or rebuild: a job that goes on where it stopped, whoever runs it.

    `kind`: range, open (what is failed, then from the checkpoint on), stream, rebuild, or beside (a rebuild whose
    tables are `built_into` another place, `compared` with the live ones and exchanged for them, unless more than
    `max_failures` events fail there). `wanted`: what a
    person wants of it, run, pause or cancel; `status` is what became of that.
    """

    __tablename__ = "projection_replays"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    projection_name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    wanted: Mapped[str] = mapped_column(String(16), server_default=text("'run'"))
    from_sequence: Mapped[int | None] = mapped_column(BigInteger)
    to_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    skip_failed: Mapped[bool] = mapped_column(Boolean, server_default=false())
    events_per_second: Mapped[float | None] = mapped_column(Float)
    phase: Mapped[str] = mapped_column(String(16))
    begins_after: Mapped[int] = mapped_column(BigInteger)
    ends_at: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[int] = mapped_column(BigInteger)
    events_replayed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    events_skipped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    events_failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    actor: Mapped[str] = mapped_column(String(255))
    note: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    built_into: Mapped[str | None] = mapped_column(String(63))
    max_failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    compared: Mapped[Any | None] = mapped_column(_Payload)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


_UNFINISHED = ProjectionReplay.finished_at.is_(None)

Index(
    "uq_projection_replays_unfinished",
    ProjectionReplay.projection_name,
    unique=True,
    postgresql_where=_UNFINISHED,
    sqlite_where=_UNFINISHED,
)
Index("ix_projection_replays_newest", ProjectionReplay.created_at, ProjectionReplay.id)


class ProjectionBulkAction(_Model):
    """One strategy for many failures: proposed, confirmed, and then a job that goes on where it stopped.

    From `projection_name` to `failed_until` it says which failures are meant, of the `projections` in which some were
    found, that had failed by `created_at`. `hand_at` and `hand_id` name the failure in hand, `position_at` and
    `position_id` the last one that was counted.
    """

    __tablename__ = "projection_bulk_actions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    strategy: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    wanted: Mapped[str] = mapped_column(String(16), server_default=text("'run'"))
    projection_name: Mapped[str | None] = mapped_column(String(255))
    error_type: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str | None] = mapped_column(Text)
    event_type: Mapped[str | None] = mapped_column(Text)
    stream_id: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str | None] = mapped_column(String(16))
    failed_from: Mapped[datetime | None]
    failed_until: Mapped[datetime | None]
    projections: Mapped[Any] = mapped_column(_Payload)
    matched: Mapped[int] = mapped_column(BigInteger)
    done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    actor: Mapped[str] = mapped_column(String(255))
    note: Mapped[str | None] = mapped_column(Text)
    confirmed_by: Mapped[str | None] = mapped_column(String(255))
    request_id: Mapped[str | None] = mapped_column(String(255))
    error: Mapped[str | None] = mapped_column(Text)
    position_at: Mapped[datetime | None]
    position_id: Mapped[UUID | None]
    hand_at: Mapped[datetime | None]
    hand_id: Mapped[UUID | None]
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


_TO_BE_DONE = ProjectionBulkAction.confirmed_at.is_not(None) & ProjectionBulkAction.finished_at.is_(None)

Index(
    "ix_projection_bulk_actions_unfinished",
    ProjectionBulkAction.confirmed_at,
    postgresql_where=_TO_BE_DONE,
    sqlite_where=_TO_BE_DONE,
)
Index("ix_projection_bulk_actions_newest", ProjectionBulkAction.created_at, ProjectionBulkAction.id)


class SetAsideEvent(_Model):
    """An event that failed where a read model is built beside the live one, or that waits there behind such a one.

    At the exchange it becomes a failure, or parked; until then it is of no concern to the live projection. `error_type`
    is null where it waits. `verdict` and `delay_seconds` are the retry policy's; no delay: no retry is planned.
    """

    __tablename__ = "projection_set_aside_events"

    replay_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    gate: Mapped[str] = mapped_column(String(255))
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    stream_id: Mapped[str | None] = mapped_column(String(255))
    error_type: Mapped[str | None] = mapped_column(String(255))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    verdict: Mapped[str | None] = mapped_column(String(16))
    delay_seconds: Mapped[float | None] = mapped_column(Float)


_FAILED_BESIDE = SetAsideEvent.error_type.is_not(None)

Index(
    "ix_projection_set_aside_events_failed",
    SetAsideEvent.replay_id,
    SetAsideEvent.gate,
    postgresql_where=_FAILED_BESIDE,
    sqlite_where=_FAILED_BESIDE,
)


class ProjectionAttempt(_Model):
    """One failed call of a handler: the history of a failure."""

    __tablename__ = "projection_attempts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(BigIdentity, primary_key=True, autoincrement=True)
    failure_id: Mapped[UUID]
    projection_name: Mapped[str] = mapped_column(String(255))
    gate: Mapped[str] = mapped_column(String(255))
    number: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[str] = mapped_column(String(16))
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(64))
    duration_ms: Mapped[float | None] = mapped_column(Float)
    attempted_at: Mapped[datetime]


Index("ix_projection_attempts_failure", ProjectionAttempt.failure_id, ProjectionAttempt.id)
Index("ix_projection_attempts_recent", ProjectionAttempt.projection_name, ProjectionAttempt.id)


class ProjectionAuditEntry(_Model):
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
    note: Mapped[str | None] = mapped_column(Text)
    details: Mapped[Any | None] = mapped_column(_Payload)
    action_id: Mapped[str | None] = mapped_column(String(32))
    request_id: Mapped[str | None] = mapped_column(String(255))


Index("ix_projection_audit_log_projection", ProjectionAuditEntry.projection_name, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_action_id", ProjectionAuditEntry.projection_name, ProjectionAuditEntry.action_id)
Index("ix_projection_audit_log_actor", ProjectionAuditEntry.actor, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_action", ProjectionAuditEntry.action, ProjectionAuditEntry.id)
Index("ix_projection_audit_log_failure", ProjectionAuditEntry.failure_id, ProjectionAuditEntry.id)


class ProjectionRequest(_Model):
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
    content: Mapped[Any | None] = mapped_column(_Payload)
    created_at: Mapped[datetime]


Index("ix_projection_requests_oldest", ProjectionRequest.created_at)

table_names: frozenset[str] = frozenset(metadata.tables)
