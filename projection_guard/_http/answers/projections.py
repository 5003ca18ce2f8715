"""What is told of a projection: its health, its checkpoint, its history, its jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from ..._model import HealthStatus
from ._answer import Answer, Page

__all__ = [
    "Checkpoint",
    "Health",
    "History",
    "Point",
    "Probe",
    "Replay",
    "ReplayPage",
    "SkippedPage",
    "SkippedRange",
    "Summary",
    "SystemStatus",
]


class Probe(Answer):
    """Whether the process lives, or is ready for requests."""

    status: Literal["live", "ready", "not_ready"]
    detail: str | None = None


class Summary(Answer):
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


class Checkpoint(Answer):
    """How far a projection has come."""

    projection_name: str
    last_event_id: str | None
    last_event_type: str | None
    last_event_sequence: int | None
    checkpoint_at: datetime
    events_processed: int
    created_at: datetime
    updated_at: datetime


class Point(Answer):
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


class History(Answer):
    """How a projection did over time."""

    projection_name: str
    bucket_seconds: int = Field(description="From one point to the next")
    points: list[Point] = Field(description="The oldest first; empty where nothing was sampled")


class SystemStatus(Answer):
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


class SkippedRange(Answer):
    """Sequences of the log, both ends included, in which there was nothing."""

    projection_name: str
    first_sequence: int
    last_sequence: int
    given_up: bool
    reason: str
    skipped_at: datetime


class SkippedPage(Page):
    """Ranges, highest first."""

    items: list[SkippedRange]


class Replay(Answer):
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


class ReplayPage(Page):
    """Replays and rebuilds, newest first."""

    items: list[Replay]
