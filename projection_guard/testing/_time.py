"""Time passes at once: what the guard has written down grows older, as if the test had waited.

The guard's clock is the database's, which nobody can turn, so everything it has on record is moved into the past
instead. To each rule that compares a record with now, in whichever process, that is the same.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, overload

from sqlalchemy import Connection, literal, update

from .._async_guard import AsyncProjectionGuard
from .._core.context import transact
from .._desk import service_of
from .._dialect import UtcDateTime, moved
from .._guard import ProjectionGuard
from .._tables import ProjectionAuditEntry, ProjectionSample, metadata
from ..errors import InvalidArgument
from ._guards import AnyGuard, as_the_guard

__all__ = ["advance"]


@overload
def advance(guard: ProjectionGuard, by: timedelta) -> None: ...
@overload
def advance(guard: AsyncProjectionGuard, by: timedelta) -> Coroutine[Any, Any, None]: ...
def advance(guard: AnyGuard, by: timedelta) -> Coroutine[Any, Any, None] | None:
    """Let time pass for a guard's database, and wake the worker of this process; await it for an async guard.

    Retries become due, leases run out (whoever holds one is as one that was stopped for so long), lag grows, applied
    events leave `dedupe_window`, kept answers and proposals expire. All of it moves together, so what was before
    something else still is; SQLite keeps milliseconds, and samples move by whole minutes. Not moved: the audit log,
    which cannot be changed; the application's own tables, its events' times among them; a handler's `timeout`, which
    runs on the process's clock; pages' `after` that were given out before. Raises `InvalidArgument` for a time that
    does not pass.
    """
    if by <= timedelta(0):
        raise InvalidArgument("advance() takes a time that passes: time does not go back")
    return as_the_guard(guard, _advance(guard, by.total_seconds()))


async def _advance(guard: AnyGuard, seconds: float) -> None:
    service = service_of(guard)
    await service.check_schema()  # says clearly where the tables are not there
    context = service.context
    await transact(context, lambda connection: _age(connection, seconds), what="letting time pass")
    context.last_samples.forget()
    if context.works_here():
        context.wake(0.0)


def _age(connection: Connection, seconds: float) -> None:
    for table in metadata.sorted_tables:
        times = [column for column in table.columns if isinstance(column.type, UtcDateTime)]
        if times and table.name != ProjectionAuditEntry.__tablename__:
            older = {column.name: moved(column, literal(-seconds)) for column in times}
            connection.execute(update(table).values(older))
    # Their minutes are part of a key: in two steps, over negative numbers, no row meets one that is still to be moved.
    connection.execute(update(ProjectionSample).values(minute=-ProjectionSample.minute))
    connection.execute(update(ProjectionSample).values(minute=-ProjectionSample.minute - int(seconds // 60)))
