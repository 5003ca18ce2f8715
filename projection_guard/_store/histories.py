"""What is on record of one stream in one projection: how its gate stands, which events, and what of each of them.

An event moves from parked to failed to done, and so are these read: in this order, cursors before all of them. What has
moved in between is then found later on, or has been seen already; nothing is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, func, literal, or_, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import statement_start
from .._model import Order, ResolutionMethod
from .._tables import (
    ParkedEvent,
    ProjectionAppliedEvent,
    ProjectionAuditEntry,
    ProjectionFailure,
    ProjectionReplay,
    ProjectionSkippedRange,
    ProjectionStream,
)
from . import audits
from .attempts import is_reserved
from .parked import shown_attempts

__all__ = [
    "GateOfStream",
    "NewestFailure",
    "OfEvents",
    "began_anew_at",
    "given_up",
    "has_ended",
    "is_parked",
    "of_events",
    "stands",
]

S, F, P, A, K, L, R = (
    ProjectionStream,
    ProjectionFailure,
    ParkedEvent,
    ProjectionAppliedEvent,
    ProjectionSkippedRange,
    ProjectionAuditEntry,
    ProjectionReplay,
)
_NAMED_AT_MOST: Final = 100
_LOOKED_BACK: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOfStream:
    """How a stream stands: see `StreamHistory`."""

    blocked: bool
    tainted: bool
    tainted_reason: str | None
    leased: bool
    parked_events: int
    failure_ids: tuple[UUID, ...]


def stands(connection: Connection, projection: str, stream_id: str, order: Order) -> GateOfStream:
    """Read how a stream stands. Where no order is kept it has no gate of its own."""
    is_free = or_(S.lease_expires_at.is_(None), S.lease_expires_at <= statement_start())
    gate = select(S.blocked, S.tainted, S.tainted_reason, (~is_free).label("leased")).where(
        S.projection_name == projection, S.stream_id == ("" if order is Order.GLOBAL else stream_id)
    )
    row = None if order is Order.NONE else connection.execute(gate).one_or_none()
    parked = select(func.count()).select_from(P).where(*is_parked(projection, stream_id, order))
    called = and_(F.lease_expires_at > statement_start(), ~is_reserved(F.lease_owner))
    failed = (
        select(F.id, func.coalesce(called, literal(False)).label("leased"))
        .where(F.projection_name == projection, F.resolved_at.is_(None))
        .order_by(F.failed_at, F.id)
        .limit(_NAMED_AT_MOST)
    )
    if order is not Order.GLOBAL:
        failed = failed.where(F.stream_id == stream_id)
    parked_events = connection.execute(parked).scalar_one()
    failures = connection.execute(failed).all()
    return GateOfStream(
        blocked=row is not None and row.blocked,
        tainted=row is not None and row.tainted,
        tainted_reason=None if row is None else row.tainted_reason,
        leased=(row is not None and bool(row.leased)) or any(failure.leased for failure in failures),
        parked_events=parked_events,
        failure_ids=tuple(failure.id for failure in failures),
    )


def is_parked(projection: str, stream_id: str, order: Order) -> tuple[ColumnElement[bool], ...]:
    """Say in SQL which parked events are a stream's: behind its own gate where it has one, found by that."""
    gate = {Order.STREAM: (P.gate == stream_id,), Order.GLOBAL: (P.gate == "",), Order.NONE: ()}[order]
    return (P.projection_name == projection, *gate, P.stream_id == stream_id)


def began_anew_at(connection: Connection, projection: str) -> datetime | None:
    """Return when a projection was last set back to its beginning: what had become of its events before is over.

    Such actions are few: they are found by what they are, and not among all that was done to the projection. One that
    was begun and has cleared nothing is none.
    """
    is_of_it = (L.projection_name == projection).is_(True)  # so said, no index is searched by it
    statement = (
        select(L.at, L.action, L.details)
        .where(is_of_it, L.action.in_(("reset_done", "rebuild")))
        .order_by(L.id.desc())
        .limit(_LOOKED_BACK)
    )
    for at, action, details in connection.execute(statement):
        told: Mapping[str, object] = details or {}
        if action == "reset_done" or _has_cleared(connection, told):
            began: datetime = at
            return began
    return None


def _has_cleared(connection: Connection, told: Mapping[str, object]) -> bool:
    if told.get("kind") != "rebuild":  # one beside the live read model clears nothing of it
        return False
    phase = select(R.phase).where(R.id == UUID(str(told["job"])))
    return connection.execute(phase).scalar_one_or_none() != "clear"


# -- what became of events


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestFailure:
    """The newest failure of an event. `how` it has ended; None where it is unresolved."""

    id: UUID
    failed_at: datetime
    ended_at: datetime | None
    how: ResolutionMethod | None
    retry_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfEvents:
    """What is on record of some events, each by its id. `tainted` are those whose gate is.

    `untainted`: when a person ended the taint of an event's gate, for those that were skipped and have no row any more.
    """

    parked: Mapping[str, tuple[datetime, int]]
    failures: Mapping[str, NewestFailure]
    done: Mapping[str, tuple[datetime, str]]
    tainted: frozenset[str]
    untainted: Mapping[str, datetime]


def of_events(connection: Connection, projection: str, gates: Mapping[str, str], *, since: datetime | None) -> OfEvents:
    """Read what is on record of events, given by their ids with the gates that they are behind.

    Failures that ended by then, or by a reset, say nothing any more.
    """
    events = list(gates)
    if not events:
        return OfEvents(parked={}, failures={}, done={}, tainted=frozenset(), untainted={})
    parked = select(P.event_id, P.parked_at, P.attempts).where(P.projection_name == projection, P.event_id.in_(events))
    waiting = {row.event_id: (row.parked_at, shown_attempts(row.attempts)) for row in connection.execute(parked)}
    failures = _failures(connection, projection, events, since)
    done = select(A.event_id, A.applied_at, A.how).where(A.projection_name == projection, A.event_id.in_(events))
    tainted = select(S.stream_id).where(
        S.projection_name == projection, S.tainted, S.stream_id.in_(set(gates.values()))
    )
    marked = set(connection.execute(tainted).scalars())
    ended = {row.event_id: (row.applied_at, row.how) for row in connection.execute(done)}
    skipped = {
        event: gates[event]
        for event, failure in failures.items()
        if failure.how is ResolutionMethod.MANUAL_SKIP and event not in ended and gates[event] not in marked
    }
    untainted = audits.untainted(connection, projection, set(skipped.values()))
    return OfEvents(
        parked=waiting,
        failures=failures,
        done=ended,
        tainted=frozenset(event for event, gate in gates.items() if gate in marked),
        untainted={event: untainted[gate] for event, gate in skipped.items() if gate in untainted},
    )


def _failures(
    connection: Connection, projection: str, events: Sequence[str], since: datetime | None
) -> dict[str, NewestFailure]:
    columns = (F.event_id, F.id, F.failed_at, F.resolved_at, F.resolution_method, F.retry_count)
    of_them = select(*columns).where(F.projection_name == projection, F.event_id.in_(events))
    both = union_all(of_them.where(F.resolved_at.is_(None)), of_them.where(*has_ended(since)))
    rows = sorted(connection.execute(both), key=lambda row: (row.resolved_at is None, row.failed_at, row.resolved_at))
    return {row.event_id: _failure(row) for row in rows}


def has_ended(since: datetime | None) -> tuple[ColumnElement[bool], ...]:
    """Say in SQL which failures have ended in a way that still holds."""
    ended = (F.resolved_at.is_not(None), F.resolution_method != ResolutionMethod.MANUAL_RESET.value)
    return ended if since is None else (*ended, F.resolved_at > since)


def _failure(row: Any) -> NewestFailure:
    method = row.resolution_method
    return NewestFailure(
        id=row.id,
        failed_at=row.failed_at,
        ended_at=row.resolved_at,
        how=None if method is None else ResolutionMethod(method),
        retry_count=row.retry_count,
    )


def given_up(connection: Connection, projection: str, first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges of the log between two sequences that were given up: what stands there now was missed."""
    statement = select(K.first_sequence, K.last_sequence).where(
        K.projection_name == projection, K.given_up, K.first_sequence <= last, K.last_sequence >= first
    )
    return [(row.first_sequence, row.last_sequence) for row in connection.execute(statement)]
