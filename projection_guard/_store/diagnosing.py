"""What somebody who looks for trouble asks of the guard's tables; nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, and_, func, literal, or_, select, union_all

from .._dialect import moved, seconds_between, statement_start
from .._tables import (
    ProjectionBulkAction,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionReplay,
    ProjectionState,
    ProjectionStream,
)

__all__ = ["Idle", "Known", "Left", "Waiting", "idle", "known", "left_leases", "waiting"]

B, F, L, R, S, T = (
    ProjectionBulkAction,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionReplay,
    ProjectionStream,
    ProjectionState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A projection that is on record: what is wanted of it, by whom, and how it is brought its events."""

    name: str
    state: str
    order: str
    is_followed: bool
    actor: str | None
    reason: str | None
    for_seconds: float
    held_since: datetime | None
    has_job: bool


def known(connection: Connection, name: str | None = None) -> list[Known]:
    """Read the projections that are on record, by name: all of them, or the one of this name."""
    job = select(literal(1)).where(R.projection_name == T.projection_name, R.finished_at.is_(None)).exists()
    for_seconds = seconds_between(T.changed_at, statement_start()).label("for_seconds")
    columns = (T.projection_name, T.state, T.ordering, T.mode, T.actor, T.reason, for_seconds, T.held_since)
    statement = select(*columns, job.label("has_job")).order_by(T.projection_name)
    rows = connection.execute(statement if name is None else statement.where(T.projection_name == name))
    return [
        Known(
            name=row.projection_name,
            state=row.state,
            order=row.ordering,
            is_followed=row.mode == "followed",
            actor=row.actor,
            reason=row.reason,
            for_seconds=max(float(row.for_seconds), 0.0),
            held_since=row.held_since,
            has_job=bool(row.has_job),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Leases of one kind in a projection that have run out, and that nobody has taken over or given back."""

    what: str
    projection: str
    number: int
    for_seconds: float


def left_leases(connection: Connection, *, for_seconds: float) -> list[Left]:
    """Count the leases that ran out longer ago than that."""
    long_ago = moved(statement_start(), literal(-for_seconds))
    of = (
        ("stream", S.projection_name, S.lease_expires_at, S.lease_owner.is_not(None)),
        ("partition", L.projection_name, L.lease_expires_at, L.lease_owner.is_not(None)),
        ("retry", F.projection_name, F.lease_expires_at, and_(F.lease_owner.is_not(None), F.resolved_at.is_(None))),
    )
    statement = union_all(
        *(
            select(
                literal(what).label("what"),
                name.label("projection"),
                func.count().label("number"),
                func.max(seconds_between(expires, statement_start())).label("for_seconds"),
            )
            .where(is_held, expires <= long_ago)
            .group_by(name)
            for what, name, expires, is_held in of
        )
    )
    return [
        Left(what=row.what, projection=row.projection, number=row.number, for_seconds=float(row.for_seconds))
        for row in connection.execute(statement)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A job that should be run, and that nobody runs."""

    what: str
    id: UUID
    projection: str
    for_seconds: float


def idle(connection: Connection, *, for_seconds: float) -> list[Idle]:
    """Read the replays and bulk actions that nobody has been running for so long, though somebody should."""
    long_ago = moved(statement_start(), literal(-for_seconds))

    resting = and_(R.wanted == "pause", R.status == "paused")
    since = seconds_between(R.updated_at, statement_start()).label("since")
    replays = select(R.id, R.projection_name, R.kind, since).where(
        R.finished_at.is_(None),
        or_(R.lease_owner.is_(None), R.lease_expires_at <= long_ago),
        ~resting,
        R.updated_at <= long_ago,
    )
    bulk_since = seconds_between(B.updated_at, statement_start()).label("since")
    bulk = select(B.id, B.projections, B.strategy, bulk_since).where(
        B.confirmed_at.is_not(None),
        B.finished_at.is_(None),
        or_(B.lease_owner.is_(None), B.lease_expires_at <= long_ago),
        B.updated_at <= long_ago,
    )
    return [
        Idle(what=row.kind, id=row.id, projection=row.projection_name, for_seconds=float(row.since))
        for row in connection.execute(replays)
    ] + [
        Idle(
            what=f"bulk {row.strategy}", id=row.id, projection=", ".join(row.projections), for_seconds=float(row.since)
        )
        for row in connection.execute(bulk)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Work of a projection that is due, for how long, and that nobody has in hand."""

    projection: str
    number: int
    for_seconds: float


def waiting(connection: Connection, *, for_seconds: float) -> list[Waiting]:
    """Count the retries and drains of active projections that have been due for longer than that."""
    long_ago = moved(statement_start(), literal(-for_seconds))
    flows = (T.state == "active", T.held_since.is_(None))
    retries = (
        select(F.projection_name.label("projection"), F.next_retry_at.label("due"))
        .join(T, T.projection_name == F.projection_name)
        .where(*flows, F.resolved_at.is_(None), F.next_retry_at <= long_ago)
        .where(or_(F.lease_expires_at.is_(None), F.lease_expires_at <= statement_start()))
    )
    drains = (
        select(S.projection_name.label("projection"), S.drain_after.label("due"))
        .join(T, T.projection_name == S.projection_name)
        .where(*flows, S.blocked, S.drain_after <= long_ago)
    )
    due = union_all(retries, drains).subquery()
    statement = select(
        due.c.projection,
        func.count().label("number"),
        func.max(seconds_between(due.c.due, statement_start())).label("for_seconds"),
    ).group_by(due.c.projection)
    return [
        Waiting(projection=row.projection, number=row.number, for_seconds=float(row.for_seconds))
        for row in connection.execute(statement.order_by(due.c.projection))
    ]
