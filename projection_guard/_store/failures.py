"""The failure rows: keep one, claim those that are due, record how an attempt went, resolve.

Whoever writes here holds the stream's gate, except for `claim_due` and `renew`, which touch the failure's own lease
only. Every change of the number of unresolved rows changes `active_failures` in the same transaction (`counters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    Connection,
    bindparam,
    case,
    delete,
    exists,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from .._dialect import Changing, is_mysql, later, statement_start, utc_now
from .._model import EventRecord, Failure, Json, ResolutionMethod
from .._policy import Verdict
from .._tables import ParkedEvent, ProjectionAppliedEvent, ProjectionAttempt, ProjectionFailure, ProjectionState
from . import attempts
from .attempts import DescribedError, is_reserved
from .claims import Ticket

__all__ = [
    "DescribedError",
    "Kept",
    "claim",
    "claim_due",
    "failure_of",
    "give_back",
    "keep",
    "locked",
    "one",
    "record_attempt",
    "renew",
    "resolve",
    "resolve_all",
    "resolve_beyond",
    "undo_claim",
]

F, P, A, H = ProjectionFailure, ParkedEvent, ProjectionAppliedEvent, ProjectionAttempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A failure to be written: the event as JSON, the error, and what the policy said."""

    ticket: Ticket
    payload: Json
    error: DescribedError
    verdict: Verdict
    retry_count: int
    max_retries: int
    duration_ms: float | None
    trace: str | None
    lease_owner: str | None
    lease_seconds: float | None


_ROW = F.__table__.c
_undo_claim = delete(A).where(A.projection_name == bindparam("projection"), A.event_id == bindparam("event"))
_keep = insert(F).values(
    failed_at=utc_now(),
    next_retry_at=later(bindparam("delay")),
    lease_expires_at=later(bindparam("lease")),
    created_at=utc_now(),
    updated_at=utc_now(),
)


def undo_claim(connection: Connection, ticket: Ticket) -> None:
    """Delete the applied row that the claim of this transaction wrote, or that a replay makes untrue."""
    connection.execute(_undo_claim, {"projection": ticket.projection, "event": ticket.event.event_id})


def keep(connection: Connection, kept: Kept) -> UUID:
    """Write the failure of an event that has none unresolved. Hold the gate."""
    failure_id = uuid4()
    event = kept.ticket.event
    connection.execute(
        _keep,
        {
            "id": failure_id,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "event_sequence": event.sequence,
            "stream_id": event.stream_id,
            "event_payload": kept.payload,
            "projection_name": kept.ticket.projection,
            **_error_parameters(kept.error),
            "retry_count": kept.retry_count,
            "max_retries": kept.max_retries,
            "delay": kept.verdict.delay_seconds,
            "lease_owner": kept.lease_owner,
            "lease": kept.lease_seconds,
        },
    )
    _write_attempt(connection, failure_id, kept.retry_count, kept)
    return failure_id


def _error_parameters(error: DescribedError) -> dict[str, object]:
    return {
        "error_type": error.type,
        "error_message": error.message,
        "error_traceback": error.traceback,
        "fingerprint": error.fingerprint,
    }


_ACTIVE = exists(
    select(literal(1)).where(
        ProjectionState.projection_name == bindparam("projection"),
        ProjectionState.state == "active",
        or_(ProjectionState.held_since.is_(None), bindparam("is_probe").is_(True)),
    )
)
_due = (
    select(F.id)
    .where(
        F.projection_name == bindparam("projection"),
        F.resolved_at.is_(None),
        F.next_retry_at.is_not(None),
        F.next_retry_at <= statement_start(),
        or_(
            F.lease_expires_at.is_(None),
            F.lease_expires_at <= statement_start(),
            F.lease_owner == bindparam("process"),
            F.lease_owner == bindparam("token"),
        ),
        _ACTIVE,
    )
    .order_by(F.next_retry_at)
    .limit(1)
    .with_for_update(skip_locked=True, of=F)
)


# A claim whose reply was lost is made again, and is not counted twice.
_is_mine = F.lease_owner == bindparam("token")
_TAKE: dict[str, Any] = {
    "lease_owner": bindparam("token"),
    "lease_expires_at": later(bindparam("lease_seconds")),
    "retry_count": case((_is_mine, F.retry_count), else_=F.retry_count + 1),
    "last_retry_at": utc_now(),
    "updated_at": utc_now(),
}
_claim_due = update(F).where(F.id == _due.scalar_subquery()).values(_TAKE).returning(*_ROW)
_claim_found = Changing(update(F).values(_TAKE), (F.id == bindparam("found"),), *_ROW)
_claim_one = Changing(
    update(F).values(_TAKE),
    (
        F.id == bindparam("failure"),
        F.resolved_at.is_(None),
        or_(
            F.lease_expires_at.is_(None), F.lease_expires_at <= statement_start(), is_reserved(F.lease_owner), _is_mine
        ),
    ),
    *_ROW,
)


def claim_due(
    connection: Connection, projection: str, *, process: str, token: str, lease_seconds: float
) -> Failure | None:
    """Take a due failure of an active projection and count its attempt, before any handler runs; None if none is due.

    Rows that another process holds, or that were born to it and are not yet overdue, are left alone.
    """
    parameters = {
        "projection": projection,
        "process": process,
        "token": token,
        "lease_seconds": lease_seconds,
        "is_probe": False,
    }
    if is_mysql(connection.dialect):  # no LIMIT in its subqueries
        found = connection.execute(_due, parameters).scalar_one_or_none()
        return None if found is None else failure_of(_claim_found.run(connection, parameters | {"found": found})[0])
    row = connection.execute(_claim_due, parameters).one_or_none()
    return None if row is None else failure_of(row)


def claim(connection: Connection, failure_id: UUID, *, token: str, lease_seconds: float) -> Failure | None:
    """Take one unresolved failure, due or not, unless somebody else works on it; count the attempt."""
    parameters = {"failure": failure_id, "token": token, "lease_seconds": lease_seconds}
    rows = _claim_one.run(connection, parameters)
    return failure_of(rows[0]) if rows else None


_renew = (
    update(F)
    .where(F.id == bindparam("failure"), F.lease_owner == bindparam("token"))
    .values(lease_expires_at=later(bindparam("seconds")))
)
_locked = select(*_ROW).where(F.id == bindparam("failure")).with_for_update()
_one = select(*_ROW).where(F.id == bindparam("failure"))


def renew(connection: Connection, failure_id: UUID, *, token: str, lease_seconds: float) -> bool:
    """Prolong the lease of an attempt from now on; False where it is no longer ours."""
    parameters = {"failure": failure_id, "token": token, "seconds": lease_seconds}
    return connection.execute(_renew, parameters).rowcount == 1


def locked(connection: Connection, failure_id: UUID) -> Failure | None:
    """Read a failure and hold its row. Take the gate first."""
    row = connection.execute(_locked, {"failure": failure_id}).one_or_none()
    return None if row is None else failure_of(row)


def one(connection: Connection, failure_id: UUID) -> Failure | None:
    """Read a failure."""
    row = connection.execute(_one, {"failure": failure_id}).one_or_none()
    return None if row is None else failure_of(row)


_record_attempt = (
    update(F)
    .where(F.id == bindparam("failure"))
    .values(
        retry_count=bindparam("count"),
        next_retry_at=later(bindparam("delay")),
        lease_owner=bindparam("owner"),
        lease_expires_at=later(bindparam("lease")),
        updated_at=utc_now(),
    )
)


def record_attempt(connection: Connection, failure: Failure, kept: Kept) -> None:
    """Record that another attempt failed, and what follows; ends its lease (or lends it to this process anew)."""
    connection.execute(
        _record_attempt,
        {
            "failure": failure.id,
            **_error_parameters(kept.error),
            "count": kept.retry_count,
            "delay": kept.verdict.delay_seconds,
            "owner": kept.lease_owner,
            "lease": kept.lease_seconds,
        },
    )
    _write_attempt(connection, failure.id, failure.retry_count, kept)


def _write_attempt(connection: Connection, failure_id: UUID, retry_count: int, kept: Kept) -> None:
    attempts.write(
        connection,
        failure_id,
        kept.ticket,
        retry_count,
        kept.error,
        kept.verdict,
        duration_ms=kept.duration_ms,
        trace=kept.trace,
    )


_give_back = (
    update(F)
    .where(F.projection_name == bindparam("projection"), F.resolved_at.is_(None), F.lease_owner == bindparam("token"))
    .values(
        retry_count=F.retry_count - 1,
        lease_owner=null(),
        lease_expires_at=null(),
        updated_at=utc_now(),
    )
)


_later = later(bindparam("seconds"))
_put_off = _give_back.values(next_retry_at=case((F.next_retry_at < _later, _later), else_=F.next_retry_at))


def give_back(connection: Connection, projection: str, *, token: str, put_off_seconds: float | None = None) -> None:
    """Give a claimed failure back untried: the attempt is not counted, and it is due, or exhausted, as before.

    `put_off_seconds`: it is due then at the earliest, so that others come first.
    """
    if put_off_seconds is None:
        connection.execute(_give_back, {"projection": projection, "token": token})
    else:
        connection.execute(_put_off, {"projection": projection, "token": token, "seconds": put_off_seconds})


_RESOLVED: dict[str, Any] = {
    "resolved_at": utc_now(),
    "resolution_method": bindparam("method"),
    "resolved_by": bindparam("by"),
    "next_retry_at": null(),
    "lease_owner": null(),
    "lease_expires_at": null(),
    "updated_at": utc_now(),
}
_resolve = update(F).where(F.id == bindparam("failure"), F.resolved_at.is_(None)).values(_RESOLVED)
_resolve_all = update(F).where(F.projection_name == bindparam("projection"), F.resolved_at.is_(None)).values(_RESOLVED)


def resolve(connection: Connection, failure_id: UUID, method: ResolutionMethod, by: str | None) -> bool:
    """End a failure; False where it was resolved already."""
    parameters = {"failure": failure_id, "method": method.value, "by": by}
    return connection.execute(_resolve, parameters).rowcount == 1


def resolve_all(connection: Connection, projection: str, method: ResolutionMethod, by: str) -> int:
    """End all failures of a projection; return how many there were."""
    parameters = {"projection": projection, "method": method.value, "by": by}
    return connection.execute(_resolve_all, parameters).rowcount


_resolve_beyond = Changing(
    update(F).values(_RESOLVED),
    (
        F.projection_name == bindparam("projection"),
        F.resolved_at.is_(None),
        or_(F.event_sequence > bindparam("beyond"), bindparam("beyond") == 0),
    ),
    F.event_id,
    F.event_type,
    F.event_sequence,
    F.stream_id,
)


def resolve_beyond(
    connection: Connection, projection: str, sequence: int, method: ResolutionMethod, by: str
) -> list[EventRecord]:
    """End a projection's failures of events after a sequence, all of them after 0; return which events that were."""
    parameters = {"projection": projection, "method": method.value, "by": by, "beyond": sequence}
    return [
        EventRecord(
            event_id=row.event_id, event_type=row.event_type, sequence=row.event_sequence, stream_id=row.stream_id
        )
        for row in _resolve_beyond.run(connection, parameters)
    ]


def failure_of(row: Any) -> Failure:
    """Read a row of the failures' table."""
    fields = dict(row._mapping)
    method = fields.pop("resolution_method")
    return Failure(resolution_method=None if method is None else ResolutionMethod(method), **fields)
