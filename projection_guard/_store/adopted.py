"""The rows of the guard's that an adoption writes: failures as they were, parked events, checkpoints, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, insert, or_, select, update

from .._dialect import utc_now
from .._health import HealthPolicy, Signs, judge
from .._model import Order
from .._tables import (
    ProjectionCheckpoint,
    ProjectionFailure,
    ProjectionHealthMetrics,
    ProjectionState,
)
from . import counters, gates, partitions, states
from .claims import Ticket

__all__ = ["begin", "block", "follow", "has_rows_of", "recount", "write_checkpoint", "write_failures", "write_metrics"]

C, F, M, T = ProjectionCheckpoint, ProjectionFailure, ProjectionHealthMetrics, ProjectionState
_failure: Final = insert(F).values(lease_owner=None, lease_expires_at=None)


def has_rows_of(connection: Connection, projections: Sequence[str]) -> list[str]:
    """Name those of these projections that the guard has anything on record of."""
    statement = select(T.projection_name).where(T.projection_name.in_(projections))
    return sorted(connection.scalars(statement))


def write_failures(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write failures with the times that they have."""
    if rows:
        connection.execute(_failure, list(rows))


def begin(connection: Connection, projection: str, order: Order, *, follows: bool) -> None:
    """Make a projection's rows. One that was pushed so far says that what it has applied is not on record one by one.

    So a guard that is given a source refuses to compare the log with what is on record, and asks where to begin.
    """
    states.ensure(connection, projection, order, "followed" if follows else "pushed")
    counters.ensure(connection, projection)
    if not follows:
        connection.execute(update(T).where(T.projection_name == projection).values(pruned_at=utc_now()))


def follow(connection: Connection, projection: str, number: int, sequence: int, *, rescan_until: int) -> None:
    """Let following begin after a sequence of the log; up to `rescan_until` events may be on record already."""
    partitions.begin_at(connection, projection, number, sequence)
    if rescan_until > sequence:
        states.set_mode(connection, projection, "followed", rescan_until=rescan_until)


def write_checkpoint(connection: Connection, projection: str, values: Mapping[str, object]) -> None:
    """Say how far a projection has come."""
    told = {name: value for name, value in values.items() if value is not None and name != "projection_name"}
    if told:
        connection.execute(update(C).where(C.projection_name == projection).values(told))


def write_metrics(connection: Connection, projection: str, values: Mapping[str, object]) -> None:
    """Say what was counted so far; what is unresolved is counted by `recount`."""
    told = {name: value for name, value in values.items() if value is not None and name != "projection_name"}
    if told:
        connection.execute(update(M).where(M.projection_name == projection).values(told))


def block(connection: Connection, ticket: Ticket, order: Order) -> None:
    """Let a stream wait for what is unresolved of it."""
    gates.lock(connection, ticket)
    gates.settle(connection, ticket.projection, ticket.gate, order)


def recount(connection: Connection, policy: HealthPolicy, projection: str) -> int:
    """Count a projection's unresolved failures into its metrics, and judge by that; return how many."""
    counted = select(func.count()).select_from(F).where(F.projection_name == projection, F.resolved_at.is_(None))
    number = int(connection.execute(counted).scalar_one())
    status, _ = judge(policy, Signs(active_failures=number))
    values: dict[str, Any] = {"active_failures": number, "health_status": status, "updated_at": utc_now()}
    connection.execute(update(M).where(M.projection_name == projection).values(values))
    at_least = or_(M.total_failures.is_(None), M.total_failures < number)
    connection.execute(update(M).where(M.projection_name == projection, at_least).values(total_failures=number))
    return number
