"""What operators look at beside failures: parked events, a stream, the audit log, actions on many failures at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from ._model import FailureFilter, Json, Page, ResolutionMethod

__all__ = [
    "SILENT_AFTER_SECONDS",
    "Amendment",
    "AuditEntry",
    "BulkAction",
    "BulkStatus",
    "Parked",
    "Strategy",
    "StreamEvent",
    "StreamEventState",
    "StreamHistory",
    "StreamListing",
    "WorkerKind",
    "WorkerState",
]

Strategy = Literal["retry", "skip", "manual_fix"]
SILENT_AFTER_SECONDS: Final = 60.0
WorkerKind = Literal["service", "embedded"]
BulkStatus = Literal["proposed", "pending", "running", "completed", "cancelled", "failed", "expired"]
_FINISHED: Final = ("completed", "cancelled", "failed", "expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """An event that waits its turn. `attempts` counts calls of the handler that were begun and came to no end."""

    projection_name: str
    stream_id: str | None
    event_id: str
    event_type: str
    event_sequence: int | None
    event_payload: Json = field(repr=False)
    reason: str
    attempts: int
    parked_at: datetime


StreamEventState = Literal["pending", "applied", "failed", "parked", "skipped", "ignored", "missed"]
StreamListing = Literal["all", "recent", "unlisted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """An event of a stream, and what has become of it in one projection.

    `state`: "pending" (the log has it, the projection has not come to it), "applied", "failed", "parked", "skipped" (by
    a person), "ignored" (the projection takes no such events), "missed" (it was committed into a hole of the log that
    was given up). `at`: when it was applied, skipped or parked, or failed first; None where only a cursor tells it.
    `failure_id` is its newest failure, also one that has ended; `how` says how that did. `attempts` counts the calls of
    the handler that are known of.
    """

    event_id: str
    event_type: str
    event_sequence: int | None
    state: StreamEventState
    at: datetime | None
    failure_id: UUID | None
    how: ResolutionMethod | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHistory:
    """One stream in one projection: how it stands, and a page of its events, newest first.

    `leased`: a call of the handler is under way. `parked_events` are the stream's own. `failure_ids`: the unresolved
    failures that it waits for, oldest first, at most 100. With `order="global"` the whole projection is one line: it is
    told whether that is blocked, tainted or leased, and its failures. With `order="none"` no event waits for another
    one, and a stream is never blocked or tainted.

    `applied_events`: "all" are listed, as the log has them; the "recent" ones, of the last `dedupe_window`; or
    "unlisted": only those of which something else is on record, too, such as a failure.
    """

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    leased: bool
    parked_events: int
    failure_ids: tuple[UUID, ...]
    applied_events: StreamListing
    page: Page[StreamEvent]

    @property
    def log_is_read(self) -> bool:
        """True where the events were read from the log: all of them are there, those that are pending too."""
        return self.applied_events == "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what, and when.

    Where a state was changed, `details` holds it as it was `before` and is `after`. `request_id` is what `acting_for`
    was given. `projection_name` is "*" for what was decided over several projections at once.
    """

    id: int
    at: datetime
    actor: str
    action: str
    projection_name: str
    failure_id: UUID | None
    note: str | None
    details: Json
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """What one projection is given instead of an event that it could not apply, and who decided that.

    `event_payload` is the amended event, and `original_payload` what stood in the failure when it was first amended;
    both as they are stored: encrypted by an `EncryptedCodec`, whose `plain_of` reads an amendment as it does a failure.
    It was made in the failure `failure_id`; the event log holds the original.
    """

    projection_name: str
    event_id: str
    event_type: str
    event_sequence: int | None
    stream_id: str | None
    event_payload: Json = field(repr=False)
    original_payload: Json = field(repr=False)
    amended_by: str
    note: str | None
    amended_at: datetime
    failure_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAction:
    """One strategy applied to all failures that a filter means, as far as it has come; `id` confirms the proposal.

    `count` failures matched when it was proposed, in these `projections`. Of those that were `done`, `succeeded` ended
    as was wanted; `failed` did not (a retry in vain or broken off, one that was busy or that somebody else resolved).
    A proposal that nobody confirms is "expired" at `expires_at`. `waits` says why retries stand still, if they do.
    """

    id: UUID
    strategy: Strategy
    where: FailureFilter
    projections: tuple[str, ...]
    status: BulkStatus
    count: int
    done: int
    succeeded: int
    failed: int
    actor: str
    note: str | None
    confirmed_by: str | None
    request_id: str | None
    error: str | None
    created_at: datetime
    expires_at: datetime
    confirmed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    waits: str | None = None

    @property
    def is_finished(self) -> bool:
        """True once nothing will come of it any more: completed, cancelled, failed or expired."""
        return self.status in _FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker, by its last sign of life; they come every 10 s, and its row goes when it stops.

    `kind`: "service" is one whose `run()` was called, "embedded" runs beside an application. `silent_seconds` is how
    long ago `seen_at` is, by the database's clock; after a minute it was killed, hangs, or cannot reach the database.
    `stopping_at`: it takes nothing up any more, and ends what it has in hand.
    """

    worker_id: str
    kind: WorkerKind
    host: str
    process_id: int
    library_version: str
    projections: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    stopping_at: datetime | None
    silent_seconds: float

    @property
    def is_silent(self) -> bool:
        """True once nothing was heard of it for a minute."""
        return self.silent_seconds > SILENT_AFTER_SECONDS
