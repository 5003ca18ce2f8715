"""What people look at: the facts behind a projection's health, blocked and tainted streams, skipped ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    Subquery,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import seconds_between, statement_start, this_minute, total, utc_now
from .._health import HealthPolicy, Lag, Signs, judge
from .._model import Health, HealthStatus, Page, SkippedRange, StreamState
from .._tables import (
    ParkedEvent,
    ProjectionFailure,
    ProjectionHealthMetrics,
    ProjectionSkippedRange,
    ProjectionState,
    ProjectionStream,
)
from .cursors import cursor, read_cursor, read_number

__all__ = ["Judged", "judged", "now", "skipped_page", "store_judgements", "streams_page"]

M, F, P, S, T, K = (
    ProjectionHealthMetrics,
    ProjectionFailure,
    ParkedEvent,
    ProjectionStream,
    ProjectionState,
    ProjectionSkippedRange,
)
_STREAMS_AT_ONCE: Final = 100

_IS_OPEN = (F.projection_name == M.projection_name, F.resolved_at.is_(None))
_exhausted = select(func.count()).select_from(F).where(*_IS_OPEN, F.next_retry_at.is_(None))
_oldest = select(func.min(F.failed_at)).where(*_IS_OPEN)
_overdue = (
    select(F.next_retry_at)
    .where(*_IS_OPEN, F.next_retry_at.is_not(None))
    .where(or_(F.lease_expires_at.is_(None), F.lease_expires_at < statement_start()))
    .order_by(F.next_retry_at)
    .limit(1)
)
_parked = select(func.count()).select_from(P).where(P.projection_name == M.projection_name)
_longest_parked = select(func.min(P.parked_at)).where(P.projection_name == M.projection_name)
_gates = (
    select(
        S.projection_name.label("name"),
        total(case((S.tainted, 1), else_=0)).label("tainted"),
        func.max(case((S.drain_after.is_not(None), seconds_between(S.drain_after, utc_now())), else_=0.0)).label(
            "overdue"
        ),
    )
    .where(or_(S.tainted, and_(S.blocked, S.drain_after.is_not(None))))
    .group_by(S.projection_name)
    .subquery()
)


def _for_seconds(since: Select[Any]) -> ColumnElement[float]:
    """Say for how long something has been so of a projection, 0 where it is not."""
    return func.coalesce(seconds_between(since.correlate(M).scalar_subquery(), utc_now()), 0.0)


_facts = (
    select(
        M,
        T.state,
        T.held_since,
        T.reason,
        this_minute().label("minute"),
        seconds_between(T.changed_at, utc_now()).label("state_for"),
        M.active_failures.label("active"),
        _exhausted.correlate(M).scalar_subquery().label("exhausted"),
        _for_seconds(_oldest).label("failed_for"),
        _for_seconds(_overdue).label("retry_overdue"),
        _parked.correlate(M).scalar_subquery().label("parked"),
        _for_seconds(_longest_parked).label("parked_for"),
        func.coalesce(_gates.c.tainted, 0).label("tainted"),
        func.coalesce(_gates.c.overdue, 0.0).label("drain_overdue"),
    )
    .join(T, T.projection_name == M.projection_name)
    .outerjoin(_gates, _gates.c.name == M.projection_name)
    .order_by(M.projection_name)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A projection's health, and what it was judged by. `state_seconds`: how long it has been in its state.

    `minute` in which it was judged: since 1970, by the database's clock.
    """

    health: Health
    signs: Signs
    state_seconds: float
    minute: int


def judged(
    connection: Connection, policy: HealthPolicy, lags: Mapping[str, Lag], names: list[str] | None = None
) -> list[Judged]:
    """Judge projections by the facts as they are now: all that are on record, or those of these names."""
    facts = _facts if names is None else _facts.where(M.projection_name.in_(names))
    return [_judged(row, policy, lags.get(row.projection_name, Lag())) for row in connection.execute(facts)]


def _judged(row: Any, policy: HealthPolicy, lag: Lag) -> Judged:
    is_flowing = row.state == "active" and row.held_since is None
    overdue = max(row.retry_overdue, row.drain_overdue, 0.0) if is_flowing else 0.0
    signs = Signs(
        active_failures=row.active,
        exhausted_failures=row.exhausted,
        parked_events=row.parked,
        overdue_seconds=overdue,
        tainted_streams=row.tainted,
        held=row.held_since is not None,
        state=row.state,
        lag=lag,
    )
    return Judged(
        health=_health(row, policy, signs),
        signs=signs,
        state_seconds=max(row.state_for, 0.0),
        minute=row.minute,
    )


def _health(row: Any, policy: HealthPolicy, signs: Signs) -> Health:
    status, reasons = judge(policy, signs)
    lag = signs.lag
    return Health(
        projection_name=row.projection_name,
        status=HealthStatus(status),
        reasons=reasons,
        active_failures=row.active,
        exhausted_failures=row.exhausted,
        parked_events=row.parked,
        total_failures=row.total_failures,
        total_events_processed=row.total_events_processed,
        avg_processing_time_ms=row.avg_processing_time_ms,
        lag_seconds=round(max(row.failed_for, row.parked_for, lag.seconds, 0.0), 3),
        lag_events=row.active + row.parked + lag.events,
        last_failure_at=row.last_failure_at,
        last_success_at=row.last_success_at,
        state=row.state,
        held_since=row.held_since,
        tainted_streams=row.tainted,
    )


def store_judgements(connection: Connection, judged: list[Health]) -> None:
    """Write into the metrics what the judge said last, and the lag; rows that say so already are left alone."""
    for health in judged:
        connection.execute(
            update(M)
            .where(
                M.projection_name == health.projection_name,
                or_(
                    M.health_status != health.status.value, M.lag_seconds != health.lag_seconds, M.lag_seconds.is_(None)
                ),
            )
            .values(health_status=health.status.value, lag_seconds=health.lag_seconds)
        )


def now(connection: Connection) -> datetime:
    """Read the database's clock."""
    moment = connection.execute(select(utc_now())).scalar_one()
    return moment.astimezone(UTC)


def streams_page(
    connection: Connection, name: str, *, state: Literal["blocked", "tainted"], limit: int, after: str | None
) -> Page[StreamState]:
    """Read the blocked or the tainted streams of a projection, by their ids."""
    statement = select(S.stream_id, S.blocked, S.tainted, S.tainted_reason).where(
        S.projection_name == name, S.blocked if state == "blocked" else S.tainted
    )
    if after is not None:
        statement = statement.where(S.stream_id > read_cursor(after, 1)[0])
    rows = connection.execute(statement.order_by(S.stream_id).limit(limit + 1)).all()
    gates = [row.stream_id for row in rows[:limit]]
    parked, failed = _parked_behind(connection, name, gates), _failed_in(connection, name, gates)
    items = tuple(
        StreamState(
            projection_name=name,
            stream_id=row.stream_id,
            blocked=row.blocked,
            tainted=row.tainted,
            tainted_reason=row.tainted_reason,
            parked_events=parked.get(row.stream_id, 0),
            failure_ids=tuple(failed.get(row.stream_id, ())),
        )
        for row in rows[:limit]
    )
    return Page(items=items, after=cursor(items[-1].stream_id) if len(rows) > limit else None)


def _parked_behind(connection: Connection, name: str, gates: Sequence[str]) -> dict[str, int]:
    statement = select(P.gate, func.count().label("number")).where(P.projection_name == name, P.gate.in_(gates))
    return {row.gate: row.number for row in connection.execute(statement.group_by(P.gate))}


def _failed_in(connection: Connection, name: str, gates: Sequence[str]) -> dict[str, list[UUID]]:
    """Read the unresolved failures of streams, the first hundred of each, by the time at which they failed."""
    found: dict[str, list[UUID]] = {}
    for begin in range(0, len(gates), _STREAMS_AT_ONCE):
        each = [_failures_of(name, gate) for gate in gates[begin : begin + _STREAMS_AT_ONCE]]
        rows = connection.execute(union_all(*(select(one.c.gate, one.c.id, one.c.failed_at) for one in each)))
        for row in sorted(rows, key=lambda row: row.failed_at):
            found.setdefault(row.gate, []).append(row.id)
    return found


def _failures_of(name: str, gate: str) -> Subquery:
    of_it = or_(F.stream_id == gate, F.event_id == gate) if gate else true()
    return (
        select(literal(gate).label("gate"), F.id, F.failed_at)
        .where(F.projection_name == name, F.resolved_at.is_(None), of_it)
        .order_by(F.failed_at)
        .limit(100)
        .subquery()
    )


def skipped_page(connection: Connection, name: str, *, limit: int, after: str | None) -> Page[SkippedRange]:
    """Read the ranges of the log in which there was nothing, highest first."""
    statement = select(*K.__table__.c).where(K.projection_name == name)
    if after is not None:
        (below,) = read_cursor(after, 1)
        statement = statement.where(K.first_sequence < read_number(below))
    rows = connection.execute(statement.order_by(K.first_sequence.desc()).limit(limit + 1)).all()
    items = tuple(SkippedRange(**row._mapping) for row in rows[:limit])  # pyright: ignore[reportPrivateUsage]
    return Page(items=items, after=cursor(str(items[-1].first_sequence)) if len(rows) > limit else None)
