"""The gate rows: lock one, look at an event behind it, park, taint, and say what the stream waits for.

Whoever changes what a stream waits for holds its gate row and calls `settle` last: `blocked` and `drain_after` are
derived there, in one place, from the unresolved failures and the parked events as they then are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import Changing, Insert, PerDialect, is_mysql, later, seconds_between, statement_start, utc_now
from .._model import Order
from .._tables import ParkedEvent, ProjectionAppliedEvent, ProjectionFailure, ProjectionState, ProjectionStream
from .claims import Ticket

__all__ = [
    "TURN",
    "Gate",
    "Look",
    "blocked_among",
    "drain_now",
    "drainable",
    "first_failure",
    "lease",
    "lock",
    "lock_free",
    "lock_if_there",
    "lock_taint",
    "look",
    "release",
    "renew",
    "settle",
    "taint",
    "taint_of",
    "untaint",
    "wait_for_earlier",
]

S, F, P, A = ProjectionStream, ProjectionFailure, ParkedEvent, ProjectionAppliedEvent
_KEY = and_(S.projection_name == bindparam("projection"), S.stream_id == bindparam("gate"))
_LEASE_FREE = or_(S.lease_expires_at.is_(None), S.lease_expires_at <= statement_start())


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A locked gate row."""

    epoch: int
    blocked: bool
    is_leased: bool
    lease_owner: str | None


_COLUMNS: tuple[ColumnElement[Any], ...] = (
    S.epoch.expression,
    S.blocked.expression,
    (~_LEASE_FREE).label("is_leased"),
    S.lease_owner.expression,
)


def _making(insert: Callable[[Any], Insert]) -> Insert:
    return (
        insert(S)
        .values(projection_name=bindparam("projection"), stream_id=bindparam("gate"), epoch=0, touched_at=utc_now())
        .on_conflict_do_update(index_elements=["projection_name", "stream_id"], set_={"epoch": S.epoch})
    )


_make = PerDialect(_making)
_lock = PerDialect(lambda insert: _making(insert).returning(*_COLUMNS))
_locked = select(*_COLUMNS).where(_KEY).with_for_update()
_lock_free = select(*_COLUMNS).where(_KEY).with_for_update(skip_locked=True)


def lock(connection: Connection, ticket: Ticket) -> Gate:
    """Hold the stream until the transaction ends; make its row if there is none. Waits for whoever holds it."""
    parameters = {"projection": ticket.projection, "gate": ticket.gate}
    if is_mysql(connection.dialect):
        connection.execute(_make.of(connection), parameters)
        row = connection.execute(_locked, parameters).one()
    else:
        row = connection.execute(_lock.of(connection), parameters).one()
    return Gate(epoch=row.epoch, blocked=row.blocked, is_leased=bool(row.is_leased), lease_owner=row.lease_owner)


def lock_free(connection: Connection, projection: str, gate: str) -> Gate | None:
    """Hold the stream if nobody else does; None otherwise. Does not wait."""
    row = connection.execute(_lock_free, {"projection": projection, "gate": gate}).one_or_none()
    if row is None:
        return None
    return Gate(epoch=row.epoch, blocked=row.blocked, is_leased=bool(row.is_leased), lease_owner=row.lease_owner)


_lock_if_there = select(S.blocked).where(_KEY).with_for_update()


def lock_if_there(connection: Connection, ticket: Ticket) -> bool:
    """Hold the stream if it has a row, and return whether it is blocked; one without a row cannot be."""
    parameters = {"projection": ticket.projection, "gate": ticket.gate}
    return bool(connection.execute(_lock_if_there, parameters).scalar_one_or_none())


_blocked = select(S.stream_id).where(
    S.projection_name == bindparam("projection"), S.blocked, S.stream_id.in_(bindparam("gates", expanding=True))
)


def blocked_among(connection: Connection, projection: str, gates: Sequence[str]) -> frozenset[str]:
    """Return which of these streams are blocked."""
    parameters = {"projection": projection, "gates": list(gates)}
    return frozenset(connection.execute(_blocked, parameters).scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is on record of one event in one projection, and whether the projection takes events now."""

    done: str | None
    failure_id: UUID | None
    retry_count: int
    parked_id: int | None
    state: str
    is_held: bool
    is_followed: bool

    @property
    def flows(self) -> bool:
        """True while the projection takes events: active, and not held by the breaker."""
        return self.state == "active" and not self.is_held


_STATE = ProjectionState
_look = (
    select(
        select(A.how)
        .where(A.projection_name == bindparam("projection"), A.event_id == bindparam("event_id"))
        .scalar_subquery()
        .label("done"),
        F.id.label("failure_id"),
        F.retry_count.label("retry_count"),
        P.id.label("parked_id"),
        _STATE.state.label("state"),
        _STATE.held_since.label("held_since"),
        _STATE.mode.label("mode"),
    )
    .select_from(_STATE)
    .outerjoin(
        F,
        and_(
            F.projection_name == _STATE.projection_name,
            F.event_id == bindparam("event_id"),
            F.resolved_at.is_(None),
        ),
    )
    .outerjoin(P, and_(P.projection_name == _STATE.projection_name, P.event_id == bindparam("event_id")))
    .where(_STATE.projection_name == bindparam("projection"))
)


def look(connection: Connection, projection: str, event_id: str) -> Look:
    """Read what is on record of an event. Only after `lock`, in a later statement, is the answer of today."""
    row = connection.execute(_look, {"projection": projection, "event_id": event_id}).one()
    return Look(
        done=row.done,
        failure_id=row.failure_id,
        retry_count=row.retry_count or 0,
        parked_id=row.parked_id,
        state=row.state,
        is_held=row.held_since is not None,
        is_followed=row.mode == "followed",
    )


def _failures_of(order: Order) -> ColumnElement[bool]:
    """The unresolved failures behind one gate, by what the gate's key means under this order."""
    open_here = and_(F.projection_name == bindparam("projection"), F.resolved_at.is_(None))
    match order:
        case Order.STREAM:
            return and_(open_here, F.stream_id == bindparam("gate"))
        case Order.NONE:
            return and_(open_here, F.event_id == bindparam("gate"))
        case Order.GLOBAL:
            return open_here


def _settle(order: Order, *, free: bool) -> Changing:
    failed = exists(select(literal(1)).select_from(F).where(_failures_of(order)))
    parked = exists(
        select(literal(1))
        .select_from(P)
        .where(P.projection_name == bindparam("projection"), P.gate == bindparam("gate"))
    )
    values: dict[str, object] = {
        "blocked": or_(failed, parked),
        "drain_after": case((and_(~failed, parked), utc_now()), else_=null()),
        "epoch": S.epoch + 1,
        "touched_at": utc_now(),
    }
    if free:
        values |= {"lease_owner": null(), "lease_expires_at": null()}
    return Changing(update(S).values(values), (_KEY,), S.blocked, S.drain_after)


_settle_statements = {(order, free): _settle(order, free=free) for order in Order for free in (True, False)}


_first_failure = {
    order: select(func.min(func.coalesce(F.event_sequence, 0))).where(_failures_of(order)) for order in Order
}


def first_failure(connection: Connection, projection: str, gate: str, order: Order) -> int | None:
    """Return the lowest sequence of a stream's unresolved failures, 0 where one tells none; None without failures."""
    parameters = {"projection": projection, "gate": gate}
    return connection.execute(_first_failure[order], parameters).scalar_one()


_drain_now = update(S).where(_KEY).values(drain_after=utc_now())


def drain_now(connection: Connection, projection: str, gate: str) -> None:
    """Let a locked stream be drained, up to its first failure."""
    connection.execute(_drain_now, {"projection": projection, "gate": gate})


_SOONEST_SECONDS: Final = 1.0
_RAREST_SECONDS: Final = 10.0
_earlier = {
    order: select(func.count(), seconds_between(utc_now(), func.max(F.next_retry_at))).where(
        _failures_of(order), F.event_sequence < bindparam("sequence")
    )
    for order in Order
}


def wait_for_earlier(connection: Connection, ticket: Ticket, order: Order) -> float | None:
    """Return in how many seconds to look again, where an event before this one of its stream is unresolved; else None.

    That is so only where a replay of a range has met a failure before one that stood already. Hold the gate.
    """
    if ticket.event.sequence is None:
        return None
    parameters = {"projection": ticket.projection, "gate": ticket.gate, "sequence": ticket.event.sequence}
    row: Any = connection.execute(_earlier[order], parameters).one()
    count, seconds = row
    if not count:
        return None
    return _RAREST_SECONDS if seconds is None else min(max(seconds, _SOONEST_SECONDS), _RAREST_SECONDS)


def settle(connection: Connection, projection: str, gate: str, order: Order, *, free: bool = False) -> bool:
    """Derive what a locked stream waits for now; `free` ends its lease too. Return whether it can be drained."""
    statement = _settle_statements[order, free]
    (row,) = statement.run(connection, {"projection": projection, "gate": gate})
    return row.drain_after is not None


_taint = update(S).where(_KEY).values(tainted=true(), tainted_reason=bindparam("reason"))


def taint(connection: Connection, projection: str, gate: str, reason: str) -> None:
    """Mark a locked stream: its effects may be out of order, or one of them is missing."""
    connection.execute(_taint, {"projection": projection, "gate": gate, "reason": reason[:255]})


_taint_of = select(S.tainted, S.tainted_reason).where(_KEY)
_lock_taint = _taint_of.with_for_update()


def taint_of(connection: Connection, projection: str, gate: str) -> str | None:
    """Return why a stream is tainted; None where it is not."""
    return _why(connection.execute(_taint_of, {"projection": projection, "gate": gate}).one_or_none())


def lock_taint(connection: Connection, projection: str, gate: str) -> str | None:
    """Hold the stream if it has a row, and return why it is tainted; None where it is not."""
    return _why(connection.execute(_lock_taint, {"projection": projection, "gate": gate}).one_or_none())


def _why(row: Any) -> str | None:
    return (row.tainted_reason or "") if row is not None and row.tainted else None


_untaint = update(S).where(_KEY).values(tainted=false(), tainted_reason=null())


def untaint(connection: Connection, projection: str, gate: str) -> None:
    """Say that a locked stream is right again: it was replayed alone, or a person has mended it."""
    connection.execute(_untaint, {"projection": projection, "gate": gate})


TURN: Final = "turn:"
"""How the lease of a joined turn begins: it reserves the turn up to its transaction, which it cannot outlast."""
_EXPIRED: Final[BindParameter[str]] = bindparam("expired")
_WAS_APART = and_(S.lease_owner.is_not(None), ~S.lease_owner.startswith(TURN))
_lease = (
    update(S)
    .where(_KEY)
    .values(
        lease_owner=bindparam("token"),
        lease_expires_at=later(bindparam("lease_seconds")),
        tainted=or_(S.tainted, _WAS_APART),
        tainted_reason=case((_WAS_APART, _EXPIRED), else_=S.tainted_reason),
    )
)
_renew = update(S).where(_KEY, S.lease_owner == bindparam("token")).values(lease_expires_at=later(bindparam("seconds")))
_release = (
    update(S).where(_KEY, S.lease_owner == bindparam("token")).values(lease_owner=null(), lease_expires_at=null())
)


def lease(connection: Connection, projection: str, gate: str, *, token: str, lease_seconds: float) -> None:
    """Lend a locked stream to one call or turn. An apart call's lease that ran out before taints the stream."""
    connection.execute(
        _lease,
        {
            "projection": projection,
            "gate": gate,
            "token": token,
            "lease_seconds": lease_seconds,
            "expired": "the lease of an apart call ran out: its event may come after later ones",
        },
    )


def renew(connection: Connection, projection: str, gate: str, *, token: str, lease_seconds: float) -> bool:
    """Prolong a lease from now on; False where it is no longer ours."""
    parameters = {"projection": projection, "gate": gate, "token": token, "seconds": lease_seconds}
    return connection.execute(_renew, parameters).rowcount == 1


def release(connection: Connection, projection: str, gate: str, *, token: str) -> bool:
    """Give a lease back without having applied anything, and hold the stream; False where it is no longer ours."""
    parameters = {"projection": projection, "gate": gate, "token": token}
    return connection.execute(_release, parameters).rowcount == 1


_drainable = (
    select(S.stream_id)
    .where(
        S.projection_name == bindparam("projection"),
        S.drain_after.is_not(None),
        S.drain_after <= statement_start(),
        _LEASE_FREE,
        exists(
            select(literal(1)).where(
                _STATE.projection_name == bindparam("projection"),
                _STATE.state == "active",
                _STATE.held_since.is_(None),
            )
        ),
    )
    .order_by(S.drain_after)
    .limit(bindparam("limit"))
)


def drainable(connection: Connection, projection: str, limit: int) -> list[str]:
    """Name streams whose parked events can be applied now, longest waiting first."""
    return list(connection.execute(_drainable, {"projection": projection, "limit": limit}).scalars())
