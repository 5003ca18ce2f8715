"""The history of failures: each failed call of a handler, and what a row of them says of an outage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from .._dialect import statement_start, utc_now
from .._model import Attempt
from .._policy import Verdict, VerdictKind
from .._tables import ProjectionAppliedEvent, ProjectionAttempt, ProjectionFailure, ProjectionHealthMetrics
from .claims import Ticket

__all__ = [
    "DescribedError",
    "InARow",
    "any_success_since",
    "attempts_of",
    "count",
    "first_trace",
    "give_back",
    "newest_in_a_row",
    "write",
]

PROCESS: Final = "process:"
"""How the name of a process begins in `lease_owner`; an attempt under way has a token of its own there."""

F, H, A, M = ProjectionFailure, ProjectionAttempt, ProjectionAppliedEvent, ProjectionHealthMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedError:
    """An error as it can be stored: bounded, and free of what a database refuses."""

    type: str
    message: str
    traceback: str | None
    fingerprint: str


_attempt = insert(H).values(attempted_at=utc_now())


def write(
    connection: Connection,
    failure_id: UUID,
    ticket: Ticket,
    retry_count: int,
    error: DescribedError,
    verdict: Verdict,
    *,
    duration_ms: float | None,
    trace: str | None,
) -> None:
    """Write down a failed call. `retry_count` is 0 for the first delivery."""
    connection.execute(
        _attempt,
        {
            "failure_id": failure_id,
            "projection_name": ticket.projection,
            "gate": ticket.gate,
            "number": retry_count + 1,
            "verdict": verdict.kind.value,
            "error_type": error.type,
            "error_message": error.message[:2000],
            "fingerprint": error.fingerprint,
            "duration_ms": duration_ms,
            "trace": trace,
        },
    )


def first_trace(connection: Connection, failure_id: UUID) -> str | None:
    """Return what an instrument wanted to be kept of the first call of a failure, where one did."""
    kept = select(H.trace).where(H.failure_id == failure_id, H.trace.is_not(None)).order_by(H.id).limit(1)
    return connection.execute(kept).scalar_one_or_none()


_made = select(func.count()).where(H.failure_id == bindparam("failure"))


def count(connection: Connection, failure_id: UUID) -> int:
    """Count the failed calls of a failure, those that were given back included."""
    return connection.execute(_made, {"failure": failure_id}).scalar_one()


def attempts_of(connection: Connection, failure_id: UUID, *, newest: int | None = None) -> tuple[Attempt, ...]:
    """Read the failed attempts of a failure, all or the newest, oldest first."""
    statement = select(*H.__table__.c).where(H.failure_id == failure_id).order_by(H.id.desc()).limit(newest)
    rows = reversed(connection.execute(statement).all())
    return tuple(
        Attempt(
            number=row.number,
            attempted_at=row.attempted_at,
            error_type=row.error_type,
            error_message=row.error_message,
            duration_ms=row.duration_ms,
        )
        for row in rows
    )


def is_reserved(owner: Any) -> ColumnElement[bool]:
    """Tell a retry that is only reserved for the process which saw the failure from one that is under way."""
    reserved: ColumnElement[bool] = owner.like(f"{PROCESS}%")
    return reserved


_given_back = (
    select(H.failure_id, func.count().label("attempts"))
    .where(
        H.projection_name == bindparam("projection"),
        H.attempted_at >= bindparam("since", type_=H.attempted_at.type),
        H.number > 1,
        H.verdict.in_([VerdictKind.RETRY.value, VerdictKind.EXHAUSTED.value]),
    )
    .group_by(H.failure_id)
    .subquery()
)
_count_given_back = select(_given_back.c.attempts).where(_given_back.c.failure_id == F.id).scalar_subquery()
_permanently = exists(select(literal(1)).where(H.failure_id == F.id, H.verdict == VerdictKind.PERMANENT.value))
_give_back = (
    update(F)
    .where(
        F.projection_name == bindparam("projection"),
        F.resolved_at.is_(None),
        exists(
            select(literal(1)).where(
                H.failure_id == F.id, H.attempted_at >= bindparam("since", type_=H.attempted_at.type)
            )
        ),
        ~_permanently,
        or_(F.lease_expires_at.is_(None), F.lease_expires_at <= statement_start(), is_reserved(F.lease_owner)),
    )
    .values(
        retry_count=case(
            (F.retry_count > func.coalesce(_count_given_back, 0), F.retry_count - func.coalesce(_count_given_back, 0)),
            else_=0,
        ),
        next_retry_at=utc_now(),
        lease_owner=null(),
        lease_expires_at=null(),
        updated_at=utc_now(),
    )
)


def give_back(connection: Connection, projection: str, since: datetime) -> int:
    """After an outage: give unresolved failures back the retries used since it began, and make them due now."""
    return connection.execute(_give_back, {"projection": projection, "since": since}).rowcount


_recent = (
    select(H.gate, H.attempted_at)
    .where(H.projection_name == bindparam("projection"))
    .order_by(H.id.desc())
    .limit(bindparam("failures"))
    .subquery()
)
_in_a_row = select(
    func.count().label("attempts"),
    func.count(_recent.c.gate.distinct()).label("gates"),
    func.min(_recent.c.attempted_at).label("began"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InARow:
    """The newest failed attempts of a projection, seen as one row of failures."""

    attempts: int
    gates: int
    began: datetime


def newest_in_a_row(connection: Connection, projection: str, failures: int) -> InARow:
    """Look at the newest failed attempts: how many (at most `failures`), over how many streams, since when."""
    row = connection.execute(_in_a_row, {"projection": projection, "failures": failures}).one()
    return InARow(attempts=row.attempts, gates=row.gates, began=row.began)


_last_success = select(M.last_success_at).where(M.projection_name == bindparam("projection"))
_uncounted_success = (
    select(literal(1))
    .where(
        A.projection_name == bindparam("projection"),
        ~A.rolled_up,
        A.how == "applied",
        A.applied_at > bindparam("since", type_=A.applied_at.type),
    )
    .limit(1)
)


def any_success_since(connection: Connection, projection: str, since: datetime) -> bool:
    """Return whether an event was applied since then, counted into the metrics already or not."""
    last = connection.execute(_last_success, {"projection": projection}).scalar_one_or_none()
    if last is not None and last > since:
        return True
    return connection.execute(_uncounted_success, {"projection": projection, "since": since}).first() is not None
