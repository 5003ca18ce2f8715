"""What a failed call leaves behind: the failure row, the blocked stream, the counters, perhaps a hold. All at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from .._model import Failure, Json
from .._notices import Notice, NoticeKind
from .._policy import Verdict, VerdictKind, decide, probe_pause
from .._store import attempts, counters, failures, gates, outages
from .._store.claims import Ticket
from .._store.failures import DescribedError, Kept
from ..errors import CodecError, HandlerTimeout, StoreUnavailable
from .context import Context, encoded
from .describing import describe
from .projection import Projection

__all__ = [
    "FailedCall",
    "Written",
    "cannot_be_kept",
    "described_call",
    "failed_call",
    "failed_call_of_log",
    "write_attempt",
    "write_brought",
    "write_failure",
]

GRACE_SECONDS: Final = 2.0
"""How long after it is due an immediate retry is left to the process that saw the failure."""
_LEFT_RUNNING: Final = "a handler overran its timeout and was left running: its effects may come after later ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A call that failed, ready to be written down. `payload_error` says why the event itself cannot be kept.

    `trace` is what an instrument wants to be kept of the call.
    """

    error: Exception
    described: DescribedError
    payload: Json
    payload_error: str | None
    duration_ms: float | None
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A failure that was written, and the notices to tell once it is committed."""

    failure_id: UUID
    retry_count: int
    delay_seconds: float | None
    notices: tuple[Notice, ...]


def failed_call(
    context: Context,
    ticket: Ticket,
    event: object,
    error: Exception,
    duration_ms: float | None,
    trace: str | None = None,
) -> FailedCall:
    """Describe an error and turn its event into JSON. Raises `StoreUnavailable` where it can be kept only later."""
    payload, payload_error = None, None
    try:
        payload = encoded(context, ticket, event)
    except StoreUnavailable:
        raise
    except Exception as refused:
        payload_error = str(refused) if isinstance(refused, CodecError) else type(refused).__name__
    return FailedCall(
        error=error,
        described=describe(error),
        payload=payload,
        payload_error=payload_error,
        duration_ms=duration_ms,
        trace=trace,
    )


def failed_call_of_log(
    context: Context, ticket: Ticket, event: object, error: Exception, trace: str | None = None
) -> FailedCall:
    """Describe an error of an event that can be read again: its payload is kept for people to see, where it can be."""
    try:
        return replace(failed_call(context, ticket, event, error, None, trace), payload_error=None)
    except StoreUnavailable:  # to read it again takes no key
        return described_call(error, None, trace)


def described_call(error: Exception, duration_ms: float | None, trace: str | None = None) -> FailedCall:
    """Describe an error of an event that is on record already."""
    return FailedCall(
        error=error,
        described=describe(error),
        payload=None,
        payload_error=None,
        duration_ms=duration_ms,
        trace=trace,
    )


def write_failure(
    connection: Connection,
    context: Context,
    projection: Projection,
    ticket: Ticket,
    call: FailedCall,
    *,
    retry_count: int = 0,
    taint: str | None = None,
    free: bool = False,
    born: str | None = None,
) -> Written:
    """Write the first failure of an event and block its stream. Hold the gate.

    `born` names who makes the immediate retries, this process by default; `free` ends an apart call's lease.
    """
    verdict = decide(projection.retry, call.error, retry_count=retry_count, attempts=retry_count + 1)
    taint = taint or _taint_of(call.error)
    described = call.described
    if call.payload_error is not None:
        verdict = Verdict(kind=VerdictKind.PERMANENT, delay_seconds=None)
        described = replace(described, message=described.message + cannot_be_kept(call.payload_error))
    kept = _kept(context, projection, ticket, call, verdict, retry_count, projection.retry.max_retries, born)
    failure_id = failures.keep(connection, replace(kept, error=described))
    if taint is not None:
        gates.taint(connection, ticket.projection, ticket.gate, taint)
    gates.settle(connection, ticket.projection, ticket.gate, projection.order, free=free)
    counters.bump_checkpoint(connection, ticket.projection, ticket.event)
    notices = _notices_of_failed(ticket, kept, failure_id, call.error)
    if taint is not None:
        notices.append(_notice(NoticeKind.TAINTED, ticket, kept, failure_id))
    notices += _count(connection, context, projection, new=1, change=1)
    return Written(
        failure_id=failure_id, retry_count=retry_count, delay_seconds=verdict.delay_seconds, notices=tuple(notices)
    )


def write_brought(
    connection: Connection, projection: Projection, ticket: Ticket, error: DescribedError, verdict: Verdict
) -> list[Notice]:
    """Write the failure of an event that failed beside, and return what to tell. Hold its gate; settle and count it."""
    kept = Kept(
        ticket=ticket,
        payload=None,
        error=error,
        verdict=verdict,
        retry_count=0,
        max_retries=projection.retry.max_retries,
        duration_ms=None,
        trace=None,
        lease_owner=None,
        lease_seconds=None,
    )
    return _notices_of_failed(ticket, kept, failures.keep(connection, kept))


def _notices_of_failed(ticket: Ticket, kept: Kept, failure_id: UUID, error: Exception | None = None) -> list[Notice]:
    kinds = [NoticeKind.FAILED]
    if kept.verdict.delay_seconds is None:
        kinds.append(NoticeKind.EXHAUSTED)
    return [_notice(kind, ticket, kept, failure_id, error) for kind in kinds]


def _taint_of(error: Exception) -> str | None:
    """Say what a failed call does to its stream's order beyond its own end."""
    return _LEFT_RUNNING if isinstance(error, HandlerTimeout) and error.is_left_running else None


def cannot_be_kept(reason: str) -> str:
    """Say in a failure's message that its event is not on record."""
    return f"\n[the event itself could not be kept and cannot be retried from here: {reason}]"


def write_attempt(
    connection: Connection,
    context: Context,
    projection: Projection,
    ticket: Ticket,
    failure: Failure,
    call: FailedCall,
    *,
    elapsed_seconds: float,
    is_probe: bool,
    born: str | None = None,
    is_claimed: bool = True,
) -> Written:
    """Write that a retry failed, and what follows. Hold the gate and the failure's row.

    `born` names who makes the next one, if it is an immediate one still. `is_claimed`: the attempt was counted before.
    """
    made = attempts.count(connection, failure.id)
    verdict = decide(
        projection.retry,
        call.error,
        retry_count=failure.retry_count,
        max_retries=failure.max_retries,
        elapsed_seconds=elapsed_seconds,
        attempts=made + 1,
    )
    if is_probe and verdict.kind is not VerdictKind.PERMANENT:
        pause = verdict.delay_seconds if verdict.delay_seconds is not None else 1.0
        verdict = Verdict(kind=VerdictKind.TRANSIENT, delay_seconds=pause)
    uncounted = is_claimed and verdict.kind is VerdictKind.TRANSIENT
    retry_count = failure.retry_count - 1 if uncounted else failure.retry_count
    kept = _kept(context, projection, ticket, call, verdict, retry_count, failure.max_retries, born)
    failures.record_attempt(connection, failure, kept)
    taint = _taint_of(call.error)
    if taint is not None:
        gates.taint(connection, ticket.projection, ticket.gate, taint)
    gates.settle(connection, ticket.projection, ticket.gate, projection.order)
    kind = NoticeKind.RETRIED if verdict.delay_seconds is not None else NoticeKind.EXHAUSTED
    notices = [_notice(kind, ticket, kept, failure.id, call.error)]
    if taint is not None:
        notices.append(_notice(NoticeKind.TAINTED, ticket, kept, failure.id))
    notices += _count(connection, context, projection, new=0, change=0)
    return Written(
        failure_id=failure.id, retry_count=retry_count, delay_seconds=verdict.delay_seconds, notices=tuple(notices)
    )


def _kept(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    call: FailedCall,
    verdict: Verdict,
    retry_count: int,
    max_retries: int,
    born: str | None,
) -> Kept:
    owner = born or (context.process if context.works_here() else None)
    is_immediate = verdict.delay_seconds is not None and retry_count < projection.retry.immediate
    lend = owner if is_immediate else None
    return Kept(
        ticket=ticket,
        payload=call.payload,
        error=call.described,
        verdict=verdict,
        retry_count=retry_count,
        max_retries=max_retries,
        duration_ms=call.duration_ms,
        trace=call.trace,
        lease_owner=lend,
        lease_seconds=None if lend is None else (verdict.delay_seconds or 0.0) + GRACE_SECONDS,
    )


def _count(connection: Connection, context: Context, projection: Projection, *, new: int, change: int) -> list[Notice]:
    """Count the failure, and hold the projection if this is one too many in a row. The last rows to be locked."""
    before, after = counters.count_failures(
        connection, context.health, projection.name, new=new, change=change, failed=True
    )
    notices: list[Notice] = []
    if before != after:
        notices.append(Notice(kind=NoticeKind.STATUS_CHANGED, projection=projection.name, before=before, after=after))
    if _is_outage(connection, projection):
        notices.append(Notice(kind=NoticeKind.HELD, projection=projection.name))
    return notices


def _is_outage(connection: Connection, projection: Projection) -> bool:
    breaker = projection.retry.breaker
    if breaker is None:
        return False
    row = attempts.newest_in_a_row(connection, projection.name, breaker.failures)
    if row.attempts < breaker.failures or row.gates < breaker.streams:
        return False
    if attempts.any_success_since(connection, projection.name, row.began):
        return False
    return outages.hold(connection, projection.name, began=row.began, pause_seconds=probe_pause(breaker, 0))


def _notice(kind: NoticeKind, ticket: Ticket, kept: Kept, failure_id: UUID, error: Exception | None = None) -> Notice:
    return Notice(
        kind=kind,
        projection=ticket.projection,
        event_id=ticket.event.event_id,
        event_type=ticket.event.event_type,
        stream_id=ticket.event.stream_id,
        failure_id=failure_id,
        attempts=kept.retry_count + 1,
        error_type=kept.error.type,
        fingerprint=kept.error.fingerprint,
        next_retry_seconds=kept.verdict.delay_seconds,
        error=error,
    )
