"""The values that travel between modules: what an event says of itself, what became of it, what is on record.

Everything here is frozen and knows nothing of databases or frameworks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Generic, Literal, TypeVar
from uuid import UUID

from .errors import InvalidArgument

__all__ = [
    "Attempt",
    "Checkpoint",
    "EventRecord",
    "Failure",
    "FailureFilter",
    "FailureGroup",
    "FailureState",
    "Health",
    "HealthStatus",
    "Json",
    "Order",
    "Origin",
    "Outcome",
    "OutcomeStatus",
    "Page",
    "Replay",
    "ResolutionMethod",
    "SkippedRange",
    "StreamState",
    "SystemStatus",
    "check_text",
]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

T = TypeVar("T")


class Order(StrEnum):
    """What waits behind a failed event: its stream, nothing, or the whole projection."""

    STREAM = "stream"
    NONE = "none"
    GLOBAL = "global"


class Origin(StrEnum):
    """Who brought an event to a projection."""

    PUBLISH = "publish"
    """A publisher."""
    APPLY = "apply"
    """`apply`, or a call of the guarded handler."""
    RETRY = "retry"
    """A retry of its failure."""
    DRAIN = "drain"
    """A worker that drains what is parked."""
    FOLLOW = "follow"
    """A follower, out of the log."""
    REPLAY = "replay"
    """A replay or rebuild."""


class OutcomeStatus(StrEnum):
    """What became of one event in one projection."""

    APPLIED = "applied"
    """The handler has done its work, and that is on record."""
    DUPLICATE = "duplicate"
    """It was brought before, and was applied, skipped or mended by hand then."""
    PARKED = "parked"
    """It is kept, and waits its turn: behind a failure of its stream, or for the end of a pause or an outage."""
    FAILED = "failed"
    """The handler failed; the failure is kept, and tried again by the policy."""
    IGNORED = "ignored"
    """The projection takes no such events; the handler was not called."""
    DEFERRED = "deferred"
    """It stands in the log, and a follower applies it."""


class HealthStatus(StrEnum):
    """The four states of a projection, from best to worst."""

    HEALTHY = "healthy"
    """Nothing is wrong."""
    DEGRADED = "degraded"
    """Some failures are unresolved, by the numbers of `HealthPolicy`."""
    CRITICAL = "critical"
    """Many are."""
    OFFLINE = "offline"
    """Very many are, or events wait and none is processed."""


class ResolutionMethod(StrEnum):
    """How a failure came to its end."""

    AUTO_RETRY = "auto_retry"
    """A retry by the policy."""
    MANUAL_RETRY = "manual_retry"
    """A retry that a person asked for."""
    MANUAL_REPLAY = "manual_replay"
    """A replay that passed over it."""
    MANUAL_SKIP = "manual_skip"
    """A person left its effect out."""
    MANUAL_FIX = "manual_fix"
    """A person made its effect by hand."""
    MANUAL_RESET = "manual_reset"
    """The projection was reset or rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """What the guard knows of an event, in its own words; `EventMapping` reads it off the event."""

    event_id: str
    event_type: str
    sequence: int | None = None
    stream_id: str | None = None
    stream_version: int | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one event in one projection.

    `attempts` counts calls of the handler for this event so far; 0 where it was not called.
    """

    status: OutcomeStatus
    projection: str
    event_id: str
    failure_id: UUID | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call of a handler that failed, as the failure's history shows it."""

    number: int
    attempted_at: datetime
    error_type: str
    error_message: str
    duration_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An event that a projection could not apply. All times are aware UTC.

    Unresolved with `next_retry_at` None means exhausted: it waits for a person.
    """

    id: UUID
    event_id: str
    event_type: str
    event_sequence: int | None
    stream_id: str | None
    event_payload: Json = field(repr=False)
    projection_name: str
    error_type: str
    error_message: str
    error_traceback: str | None
    fingerprint: str
    retry_count: int
    max_retries: int
    failed_at: datetime
    last_retry_at: datetime | None
    next_retry_at: datetime | None
    lease_owner: str | None
    lease_expires_at: datetime | None
    resolved_at: datetime | None
    resolution_method: ResolutionMethod | None
    resolved_by: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_exhausted(self) -> bool:
        """True while it waits for a person: unresolved, and no retry is planned."""
        return self.resolved_at is None and self.next_retry_at is None


FailureState = Literal["scheduled", "exhausted", "parked", "resolved"]
_FAILURE_STATES: Final = ("scheduled", "exhausted", "parked", "resolved")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFilter:
    """Which failures are meant; what is None says nothing.

    `state`: "scheduled" (a retry is planned), "exhausted" (none is), "parked" (events of its stream wait behind it),
    "resolved"; None means all that are unresolved. `failed_from` is included, `failed_until` is not. Raises
    `InvalidArgument` for a time without a zone.
    """

    projection_name: str | None = None
    error_type: str | None = None
    fingerprint: str | None = None
    event_type: str | None = None
    stream_id: str | None = None
    state: FailureState | None = None
    failed_from: datetime | None = None
    failed_until: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("projection_name", "error_type", "fingerprint", "event_type", "stream_id"):
            check_text(getattr(self, name), name)
        if self.state is not None and self.state not in _FAILURE_STATES:
            raise InvalidArgument(f"state= takes one of {', '.join(_FAILURE_STATES)}, not {self.state!r}")
        for moment in (self.failed_from, self.failed_until):
            if moment is not None and moment.tzinfo is None:
                raise InvalidArgument("failed_from= and failed_until= take aware times: say in which zone")


def check_text(given: object, name: str) -> None:
    """Raise `InvalidArgument` for what no text of the database can equal."""
    if given is not None and (not isinstance(given, str) or "\0" in given or not _is_unicode(given)):
        raise InvalidArgument(f"{name}= takes a text without NUL and lone surrogates")


def _is_unicode(given: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in given)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures of one projection that are alike; the error's type and message are those of the newest one."""

    projection_name: str
    fingerprint: str
    error_type: str
    error_message: str
    count: int
    exhausted: int
    first_failed_at: datetime
    last_failed_at: datetime
    sample_failure_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a projection has come. `last_event_sequence` never falls, except by a reset."""

    projection_name: str
    last_event_id: str | None
    last_event_type: str | None
    last_event_sequence: int | None
    checkpoint_at: datetime
    events_processed: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One projection's health, judged now. `reasons` says why it is not healthy, one sentence each.

    `lag_seconds` is the age of the oldest event that waits: failed, parked, or still in the log; `lag_events` is how
    many wait (of those still in the log at most so many: a log's sequence has holes).
    """

    projection_name: str
    status: HealthStatus
    reasons: tuple[str, ...]
    active_failures: int
    exhausted_failures: int
    parked_events: int
    total_failures: int
    total_events_processed: int
    avg_processing_time_ms: float | None
    lag_seconds: float
    lag_events: int
    last_failure_at: datetime | None
    last_success_at: datetime | None
    state: Literal["active", "paused", "resetting", "replaying", "rebuilding"]
    held_since: datetime | None
    tainted_streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """All projections of a guard in one look."""

    overall_status: HealthStatus
    total_projections: int
    healthy_projections: int
    degraded_projections: int
    critical_projections: int
    offline_projections: int
    total_active_failures: int
    total_events_processed: int
    timestamp: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay or rebuild, as far as it has come.

    `status`: pending, running, paused, completed, failed or cancelled. `progress` is 0 to 1, by sequences;
    `seconds_left` an estimate. `compared` tells for each table that was built beside how it differed from the live
    one when it took its place, with a sample of the rows, by their keys. `events_skipped` were passed over: they wait
    behind something unresolved, or were left as they are. `max_failures`: how many events may fail beside. `comparing`
    tells what a verification compares, and `compared` what it has found.
    """

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
    phase: str
    begins_after: int
    ends_at: int
    position: int
    events_replayed: int
    events_skipped: int
    events_failed: int
    actor: str
    note: str | None
    error: str | None
    built_into: str | None
    max_failures: int
    comparing: Json
    compared: Json
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    progress: float
    events_per_second_measured: float
    seconds_left: float | None

    @property
    def is_finished(self) -> bool:
        """True once it is completed, failed or cancelled."""
        return self.finished_at is not None

    @property
    def drifted(self) -> bool | None:
        """Whether a verification has found the live read model to differ; None as long as it has not, or for others."""
        if not isinstance(self.compared, dict):
            return None
        drifted = self.compared.get("drifted")
        return drifted if isinstance(drifted, bool) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRange:
    """Sequences of the log, both ends included, in which a projection has found nothing, and why.

    `given_up`: something might have come there; the source was told not to wait for that any longer.
    """

    projection_name: str
    first_sequence: int
    last_sequence: int
    given_up: bool
    reason: str
    skipped_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """A stream that is not simply flowing: blocked behind a failure, or tainted."""

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    parked_events: int
    failure_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list. Give `after` to the same call to get what follows; None means there is nothing more."""

    items: tuple[T, ...]
    after: str | None
