"""A read model that is filled again from its events is what it was: the promise behind every rebuild."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any, overload

from sqlalchemy import Connection, Table

from .._async_guard import AsyncProjectionGuard
from .._desk import service_of
from .._guard import ProjectionGuard
from ..errors import InvalidArgument
from ._guards import AnyGuard, answer_of, as_the_guard, check_all_is_applied, in_the_database
from ._rows import Rows, differences, read_rows, table_named, without

__all__ = ["assert_replay_equal"]

ACTOR = "projection_guard.testing"
Tables = Sequence[str | Table]
_Snapshot = dict[str, tuple[tuple[str, ...], Rows]]


@overload
def assert_replay_equal(
    guard: ProjectionGuard,
    name: str,
    *,
    tables: Tables | None = None,
    events: Iterable[object] | None = None,
    ignore: Collection[str] = (),
) -> None: ...
@overload
def assert_replay_equal(
    guard: AsyncProjectionGuard,
    name: str,
    *,
    tables: Tables | None = None,
    events: Iterable[object] | None = None,
    ignore: Collection[str] = (),
) -> Coroutine[Any, Any, None]: ...
def assert_replay_equal(
    guard: AnyGuard,
    name: str,
    *,
    tables: Tables | None = None,
    events: Iterable[object] | None = None,
    ignore: Collection[str] = (),
) -> Coroutine[Any, Any, None] | None:
    """Fill a projection's read model again, and raise `AssertionError` with the rows that are not as they were before.

    Followed, it is rebuilt from the log, to whose end it is brought first. Pushed, it is reset, and `events`, all that
    ever happened, are applied again. `tables` are those of the read model, by default those that the projection was
    registered with; rows are compared by their primary key, without the columns in `ignore`, such as the time of
    writing. Await it for an async guard. An empty read model, and one whose events have not all been applied, proves
    nothing and fails. Raises `InvalidArgument`.
    """
    return as_the_guard(guard, _assert_replay_equal(guard, name, tables, events, ignore))


async def _assert_replay_equal(
    guard: AnyGuard, name: str, tables: Tables | None, events: Iterable[object] | None, ignore: Collection[str]
) -> None:
    projection = service_of(guard).named(name)
    compared = projection.tables if tables is None else tables
    if not compared:
        raise InvalidArgument(f"Which tables are the read model of {name!r}? Say tables=[...]")
    if projection.is_followed is (events is not None):
        raise InvalidArgument(
            f"{name!r} is followed: its events are in the log, leave events= out"
            if projection.is_followed
            else f"{name!r} is pushed: say in events=[...] all that ever happened"
        )
    if projection.is_followed:
        await answer_of(guard.catch_up(name))
    await check_all_is_applied(guard, name)
    before = await in_the_database(guard, lambda connection: _snapshot(connection, compared, ignore))
    if not any(rows for _, rows in before.values()):
        raise AssertionError(f"The read model of {name!r} is empty: apply some events first, else nothing is proved")
    await _fill_again(guard, name, events)
    await check_all_is_applied(guard, name)
    after = await in_the_database(guard, lambda connection: _snapshot(connection, compared, ignore))
    _compare(name, before, after)


async def _fill_again(guard: AnyGuard, name: str, events: Iterable[object] | None) -> None:
    if events is None:
        replay = await answer_of(guard.rebuild(name, actor=ACTOR))
        if replay.status != "completed":
            raise AssertionError(f"The rebuild of {name!r} is {replay.status}: {replay.error}")
        return
    await answer_of(guard.reset(name, actor=ACTOR))
    for event in events:
        await answer_of(guard.apply(name, event))


def _snapshot(connection: Connection, tables: Tables, ignore: Collection[str]) -> _Snapshot:
    found: _Snapshot = {}
    for table in (table_named(connection, named) for named in tables):
        key = tuple(column.name for column in table.primary_key if column.name not in ignore)
        is_whole = len(key) == len(table.primary_key)
        found[table.fullname] = (key if is_whole else (), without(read_rows(connection, table), ignore))
    return found


def _compare(name: str, before: _Snapshot, after: _Snapshot) -> None:
    lines = list[str]()
    for table, (key, rows) in before.items():
        lines += [f"  {table}: {line}" for line in differences(rows, after[table][1], key=key)]
    if lines:
        raise AssertionError("\n".join([f"Replayed, the read model of {name!r} is another one:", *lines]))
