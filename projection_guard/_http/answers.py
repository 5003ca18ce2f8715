"""What the routes answer: the guard's values as JSON, field by field, and nothing that a caller may not see."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from .._model import HealthStatus, OutcomeStatus, ResolutionMethod
from .._records import BulkStatus, Strategy, StreamEventState, StreamListing

__all__ = [
    "Attempt",
    "AuditEntry",
    "AuditPage",
    "BulkAction",
    "BulkPage",
    "BulkProposal",
    "Checkpoint",
    "Document",
    "Done",
    "Editable",
    "Failure",
    "FailureDetail",
    "FailureFilter",
    "FailureGroup",
    "FailurePage",
    "FieldError",
    "GroupPage",
    "Health",
    "History",
    "ParkedEvent",
    "ParkedPage",
    "Point",
    "Probe",
    "ProblemDocument",
    "Replay",
    "ReplayPage",
    "Resolved",
    "SkippedPage",
    "SkippedRange",
    "Stream",
    "StreamEvent",
    "StreamEventPage",
    "StreamHistory",
    "StreamPage",
    "Summary",
    "SystemStatus",
    "Unamended",
]


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True, extra="ignore", populate_by_name=True)


class Probe(_Answer):
    """Whether the process lives, or is ready for requests."""

    status: Literal["live", "ready", "not_ready"]
    detail: str | None = None


class Summary(_Answer):
    """What anybody may know of a projection."""

    projection_name: str
    health_status: HealthStatus = Field(validation_alias="status")


class Health(Summary):
    """One projection's health, judged now."""

    reasons: list[str]
    active_failures: int
    exhausted_failures: int
    parked_events: int
    total_failures: int
    total_events_processed: int
    avg_processing_time_ms: float | None
    lag_seconds: float = Field(description="Age of the oldest event that waits; 0 when it is caught up")
    lag_events: int
    last_failure_at: datetime | None
    last_success_at: datetime | None
    state: Literal["active", "paused", "resetting", "replaying", "rebuilding"]
    held_since: datetime | None = Field(description="Since when an outage has been holding it")
    tainted_streams: int


class Checkpoint(_Answer):
    """How far a projection has come."""

    projection_name: str
    last_event_id: str | None
    last_event_type: str | None
    last_event_sequence: int | None
    checkpoint_at: datetime
    events_processed: int
    created_at: datetime
    updated_at: datetime


class Point(_Answer):
    """What a projection did from `at` on. All else is null where no worker took a sample: that is not the same as 0."""

    at: datetime
    events_per_second: float | None
    failures: int | None = Field(description="New ones")
    active_failures: int | None = Field(description="The most; of those below, too, the worst is told")
    parked_events: int | None
    lag_seconds: float | None
    lag_events: int | None
    avg_processing_time_ms: float | None
    health_status: HealthStatus | None = Field(validation_alias="status")


class History(_Answer):
    """How a projection did over time."""

    projection_name: str
    bucket_seconds: int = Field(description="From one point to the next")
    points: list[Point] = Field(description="The oldest first; empty where nothing was sampled")


class SystemStatus(_Answer):
    """All projections in one look."""

    overall_status: HealthStatus
    total_projections: int
    healthy_projections: int
    degraded_projections: int
    critical_projections: int
    offline_projections: int
    total_active_failures: int
    total_events_processed: int
    timestamp: datetime


class Failure(_Answer):
    """An event that a projection could not apply."""

    id: UUID
    projection_name: str
    state: Literal["scheduled", "exhausted", "resolved"]
    event_id: str
    event_type: str
    event_sequence: int | None
    stream_id: str | None
    error_type: str
    error_message: str
    fingerprint: str
    retry_count: int
    max_retries: int
    failed_at: datetime
    last_retry_at: datetime | None
    next_retry_at: datetime | None
    resolved_at: datetime | None
    resolution_method: str | None
    resolved_by: str | None
    created_at: datetime
    updated_at: datetime


class Attempt(_Answer):
    """One call of the handler that failed."""

    number: int
    attempted_at: datetime
    error_type: str
    error_message: str
    duration_ms: float | None


class FailureDetail(Failure):
    """A failure with its history. The traceback is for operators, the event for whom the application shows it to."""

    attempts: list[Attempt]
    error_traceback: str | None = Field(description="null for viewers")
    event_payload: Any = Field(description="null where `event_payload_hidden`; the original, also where `amended`")
    event_payload_hidden: bool
    amended: bool = Field(description="The projection is given an amended event instead")
    amended_by: str | None
    amended_at: datetime | None


class _Page(_Answer):
    after: str | None = Field(description="Give it as `after=` to get what follows; null: there is nothing more")


class FailurePage(_Page):
    """Failures, newest first."""

    items: list[Failure]


class FailureGroup(_Answer):
    """Failures of one projection that have the same cause, as far as their errors tell."""

    projection_name: str
    fingerprint: str
    error_type: str
    error_message: str
    count: int
    exhausted: int
    first_failed_at: datetime
    last_failed_at: datetime
    sample_failure_id: UUID


class GroupPage(_Page):
    """Groups, biggest first."""

    items: list[FailureGroup]


class ParkedEvent(_Answer):
    """An event that waits: behind a failure of its stream, or for the end of a pause."""

    projection_name: str
    stream_id: str | None
    event_id: str
    event_type: str
    event_sequence: int | None
    event_payload: Any = Field(description="null where `event_payload_hidden`")
    event_payload_hidden: bool
    reason: str
    attempts: int
    parked_at: datetime


class ParkedPage(_Page):
    """Parked events, in the order in which they will be applied."""

    items: list[ParkedEvent]


class Stream(_Answer):
    """A stream that does not simply flow."""

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    parked_events: int
    failure_ids: list[UUID]


class StreamPage(_Page):
    """Streams, by their ids."""

    items: list[Stream]


class StreamEvent(_Answer):
    """An event of a stream, and what has become of it."""

    event_id: str
    event_type: str
    event_sequence: int | None
    state: StreamEventState = Field(
        description="pending: the projection has not come to it; ignored: it takes no such events; missed: it was "
        "committed into a hole of the log that was given up"
    )
    at: datetime | None = Field(description="null where only a cursor tells that it was applied")
    failure_id: UUID | None = Field(description="Its newest failure, also one that has ended")
    how: ResolutionMethod | None = Field(description="How that failure has ended")
    attempts: int


class StreamEventPage(_Page):
    """Events of a stream, newest first."""

    items: list[StreamEvent]


class StreamHistory(_Answer):
    """One stream: how it stands, and its events."""

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    leased: bool = Field(description="A call of the handler is under way")
    parked_events: int
    failure_ids: list[UUID]
    applied_events: StreamListing = Field(
        description="Which applied events are listed. all: as the log has them, and pending ones too; recent: those of "
        "the last `dedupe_window`; unlisted: only those that had failed"
    )
    log_is_read: bool
    page: StreamEventPage


class SkippedRange(_Answer):
    """Sequences of the log, both ends included, in which there was nothing."""

    projection_name: str
    first_sequence: int
    last_sequence: int
    given_up: bool
    reason: str
    skipped_at: datetime


class SkippedPage(_Page):
    """Ranges, highest first."""

    items: list[SkippedRange]


class Replay(_Answer):
    """A replay, rebuild or verification, as far as it has come."""

    id: UUID
    projection_name: str
    kind: Literal["range", "open", "stream", "rebuild", "beside", "verify"]
    status: Literal["pending", "running", "paused", "completed", "failed", "cancelled"]
    wanted: Literal["run", "pause", "cancel"]
    from_sequence: int | None
    to_sequence: int | None
    stream_id: str | None
    skip_failed: bool
    events_per_second: float | None
    max_failures: int
    position: int
    ends_at: int
    events_replayed: int
    events_skipped: int
    events_failed: int
    progress: float = Field(description="0 to 1, by sequences")
    events_per_second_measured: float
    seconds_left: float | None = Field(description="An estimate")
    actor: str
    note: str | None
    error: str | None
    built_into: str | None
    comparing: Any = Field(description="What a verification compares")
    compared: Any
    drifted: bool | None = Field(description="What a verification has found; null until then, and for other jobs")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


class ReplayPage(_Page):
    """Replays and rebuilds, newest first."""

    items: list[Replay]


class Resolved(_Answer):
    """What came of it: `applied`; `failed` where a retry failed again; `duplicate` where nothing was left to do."""

    failure_id: UUID
    projection_name: str
    event_id: str
    outcome: OutcomeStatus
    attempts: int
    failure: Failure


class Editable(_Answer):
    """An event that failed, as an operator edits it: decrypted, and as it was amended before, if it was."""

    failure_id: UUID
    event_payload: Any = Field(description="null where nothing of it is on record, and the log cannot say it as JSON")


class Unamended(_Answer):
    """What came of it: `withdrawn`, or there was no amendment."""

    failure_id: UUID
    projection_name: str
    event_id: str
    withdrawn: bool


class Done(_Answer):
    """What was done to a projection, and how it is now."""

    projection_name: str
    action: Literal["reset", "pause", "resume"]
    actor: str
    health: Health


class FailureFilter(_Answer):
    """Which failures a bulk action is for."""

    projection_name: str | None
    error_type: str | None
    fingerprint: str | None
    event_type: str | None
    stream_id: str | None
    state: Literal["scheduled", "exhausted", "parked", "resolved"] | None
    failed_from: datetime | None
    failed_until: datetime | None


class BulkAction(_Answer):
    """A bulk action, as far as it has come. `count`: how many failures it was for when it was proposed."""

    id: UUID
    compensation_strategy: Strategy = Field(validation_alias="strategy")
    filter: FailureFilter = Field(validation_alias="where")
    projections: list[str]
    status: BulkStatus
    count: int
    done: int
    succeeded: int
    failed: int
    actor: str
    note: str | None
    confirmed_by: str | None
    error: str | None
    created_at: datetime
    expires_at: datetime
    confirmed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    waits: str | None


class BulkProposal(BulkAction):
    """What would be done. Nothing is until it is confirmed with this token."""

    confirmation_token: str


class BulkPage(_Page):
    """Bulk actions, newest first."""

    items: list[BulkAction]


class AuditEntry(_Answer):
    """Who did what."""

    id: int
    at: datetime
    actor: str
    action: str
    projection_name: str
    failure_id: UUID | None
    note: str | None
    details: Any = Field(description="What there is to say of it, `before` and `after` where a state changed")
    request_id: str | None


class AuditPage(_Page):
    """Actions, newest first."""

    items: list[AuditEntry]


class FieldError(_Answer):
    """A field of the request that cannot be used, and why."""

    field: str
    detail: str


class ProblemDocument(_Answer):
    """What went wrong, by RFC 9457. Some kinds tell more, such as `resolved_by` and `resolved_at`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError] = Field(default_factory=list[FieldError])


class Document(RootModel[dict[str, Any]]):
    """An OpenAPI document."""
