"""How projections stand beside their health: ages, what is overdue, leases, partitions, replays that have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import seconds_between, statement_start, total, utc_now
from .._model import Replay
from .._tables import (
    ProjectionCheckpoint,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionReplay,
    ProjectionState,
    ProjectionStream,
)
from . import replays
from .attempts import is_reserved

__all__ = ["Facts", "Leases", "facts"]

C, F, N, R, S, T = (
    ProjectionCheckpoint,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionReplay,
    ProjectionStream,
    ProjectionState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """How many leases are held, and how many ran out: their holder has died, or was stopped."""

    held: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One projection. `overdue_seconds`: how long the oldest retry or drain that is due has been waiting for a worker.

    `leases` are those of retries under way, of partitions that are followed, and of the replay. `partitions` is how
    many there are: 0 where it is pushed.
    """

    oldest_failure_seconds: float
    overdue_seconds: float
    last_sequence: int | None
    partitions: int
    leases: dict[str, Leases]
    replay: Replay | None


_IS_OPEN = (F.projection_name == T.projection_name, F.resolved_at.is_(None))


def _for_seconds(since: Select[Any]) -> ColumnElement[float]:
    return func.coalesce(seconds_between(since.correlate(T).scalar_subquery(), utc_now()), 0.0)


_oldest = select(func.min(F.failed_at)).where(*_IS_OPEN)
_due = (
    select(F.next_retry_at)
    .where(*_IS_OPEN, F.next_retry_at.is_not(None))
    .where(or_(F.lease_expires_at.is_(None), F.lease_expires_at < statement_start()))
    .order_by(F.next_retry_at)
    .limit(1)
)
_drainable = select(func.min(S.drain_after)).where(
    S.projection_name == T.projection_name, S.blocked, S.drain_after.is_not(None)
)
_ages = (
    select(
        T.projection_name,
        T.state,
        T.held_since,
        C.last_event_sequence,
        _for_seconds(_oldest).label("oldest"),
        _for_seconds(_due).label("retry_overdue"),
        _for_seconds(_drainable).label("drain_overdue"),
    )
    .outerjoin(C, C.projection_name == T.projection_name)
    .order_by(T.projection_name)
)


def _counts(name: Any, expires_at: Any) -> tuple[Any, ...]:
    is_held = case((expires_at > statement_start(), 1), else_=0)
    return name.label("name"), total(is_held).label("held"), total(1 - is_held).label("expired")


_retries = (
    select(*_counts(F.projection_name, F.lease_expires_at))
    .where(F.resolved_at.is_(None), F.lease_expires_at.is_not(None), ~is_reserved(F.lease_owner))
    .group_by(F.projection_name)
)
_partitions = (
    select(*_counts(N.projection_name, N.lease_expires_at))
    .where(N.lease_owner.is_not(None), N.partition >= 0)
    .group_by(N.projection_name)
)
_replays = (
    select(*_counts(R.projection_name, R.lease_expires_at))
    .where(R.finished_at.is_(None), R.lease_owner.is_not(None))
    .group_by(R.projection_name)
)
_numbers = select(N.projection_name, func.count().label("number")).where(N.partition >= 0).group_by(N.projection_name)
_LEASES = {"retry": _retries, "partition": _partitions, "replay": _replays}


def facts(connection: Connection, names: Sequence[str]) -> dict[str, Facts]:
    """Read how these projections stand."""
    leases = {kind: _leases(connection, statement) for kind, statement in _LEASES.items()}
    numbers = {row.projection_name: row.number for row in connection.execute(_numbers)}
    under_way = replays.unfinished_among(connection, names)
    found: dict[str, Facts] = {}
    for row in connection.execute(_ages.where(T.projection_name.in_(names))):
        is_flowing = row.state == "active" and row.held_since is None
        found[row.projection_name] = Facts(
            oldest_failure_seconds=max(row.oldest, 0.0),
            overdue_seconds=max(row.retry_overdue, row.drain_overdue, 0.0) if is_flowing else 0.0,
            last_sequence=row.last_event_sequence,
            partitions=numbers.get(row.projection_name, 0),
            leases={kind: leases[kind].get(row.projection_name, Leases()) for kind in _LEASES},
            replay=under_way.get(row.projection_name),
        )
    return found


def _leases(connection: Connection, statement: Any) -> dict[str, Leases]:
    return {row.name: Leases(held=row.held, expired=row.expired) for row in connection.execute(statement)}
