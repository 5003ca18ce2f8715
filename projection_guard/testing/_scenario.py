"""Given these events, when they are projected, then the read model is this: a handler's unit test in one sentence.

    given(Opened("A"), Deposited("A", 5)).when(balances).then(accounts, [{"id": "A", "balance": 5}])

The handler runs under a real guard, on a SQLite database of its own that lives as long as the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, overload

from sqlalchemy import Connection, Engine, MetaData, Select, Table
from sqlalchemy.ext.asyncio import AsyncEngine

from .._async_guard import AsyncGuarded, AsyncProjectionGuard
from .._desk import service_of
from .._encryption import EventCodec
from .._guard import Guarded, ProjectionGuard
from .._io.protocol import drive
from .._mapping import EventMapping
from .._registration import is_async
from ..errors import InvalidArgument
from ._playing import Play, play_alone, play_crashing, play_on
from ._rows import Rows, differences, read_rows

__all__ = ["AsyncProjected", "Given", "Projected", "given"]

Handler = Callable[..., None] | Guarded[Any]
AsyncHandler = Callable[..., Coroutine[Any, Any, object]] | AsyncGuarded[Any]
What = Table | Select[Any] | Callable[[], object]
Prepare = MetaData | Callable[[Connection], object]


def given(*events: object) -> Given:
    """Begin a sentence with what has happened, in this order."""
    return Given(events=events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What has happened."""

    events: tuple[object, ...]

    @overload
    def when(self, projected: AsyncProjectionGuard, name: str, /, *, redelivered: bool = False) -> AsyncProjected: ...
    @overload
    def when(self, projected: ProjectionGuard, name: str, /, *, redelivered: bool = False) -> Projected: ...
    @overload
    def when(
        self,
        projected: AsyncHandler,
        /,
        *,
        redelivered: bool = False,
        crashed: bool = False,
        prepare: Prepare | None = None,
        database: str | AsyncEngine | None = None,
        order: str = "stream",
        mapping: EventMapping | None = None,
        codec: EventCodec | None = None,
    ) -> AsyncProjected: ...
    @overload
    def when(
        self,
        projected: Handler,
        /,
        *,
        redelivered: bool = False,
        crashed: bool = False,
        prepare: Prepare | None = None,
        database: str | Engine | None = None,
        order: str = "stream",
        mapping: EventMapping | None = None,
        codec: EventCodec | None = None,
    ) -> Projected: ...
    def when(
        self,
        projected: ProjectionGuard | AsyncProjectionGuard | Handler | AsyncHandler,
        name: str | None = None,
        /,
        *,
        redelivered: bool = False,
        crashed: bool = False,
        prepare: Prepare | None = None,
        database: str | Engine | AsyncEngine | None = None,
        order: str = "stream",
        mapping: EventMapping | None = None,
        codec: EventCodec | None = None,
    ) -> Projected | AsyncProjected:
        """Say by what it is projected: a handler, or a projection of a guard, which has to be a pushed one.

        A handler that `guard.projection` decorates is taken out of it: its guard and its database are not touched.

        `redelivered`: each event comes twice, at once and again at the end. A handler that writes elsewhere is called
        twice with each, as it is when its process dies in between. `crashed`: all of it is done again with a crash at
        each point of the flow in turn, a restart and a redelivery; on a database of its own each time. `prepare` makes
        the tables, and clears what else has to be clear; without it those of the table in `then` are made. `database`
        is one to use instead, with what is in it; it is migrated. Raises `InvalidArgument`.
        """
        if isinstance(projected, (ProjectionGuard, AsyncProjectionGuard)):
            if crashed or name is None or service_of(projected).named(name).is_followed:
                raise InvalidArgument(
                    "when(guard, name) takes a pushed projection, without crashed=; append to the log of a followed "
                    "one and say guard.catch_up(name), or give its handler alone: when(handler)"
                )
            return _sentence(projected, self, _OnGuard(guard=projected, name=name, redelivered=redelivered))
        if crashed and database is not None:
            raise InvalidArgument("crashed= needs a new database for each crash: leave database= out")
        handler = _bare(projected)
        play = Play(
            events=self.events,
            handler=handler,
            is_async=is_async(handler),
            redelivered=redelivered,
            prepare=prepare,
            database=database,
            order=order,
            mapping=mapping,
            codec=codec,
        )
        return _sentence(handler, self, _Alone(play=play, crashed=crashed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnGuard:
    """Projected by a guard of the application's."""

    guard: ProjectionGuard | AsyncProjectionGuard
    name: str
    redelivered: bool

    async def check(self, events: Sequence[object], what: What, look: Callable[[Connection], None]) -> None:
        del what
        await play_on(self.guard, self.name, events, look, redelivered=self.redelivered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alone:
    """Projected by a guard made for it."""

    play: Play
    crashed: bool

    async def check(self, events: Sequence[object], what: What, look: Callable[[Connection], None]) -> None:
        del events
        play = self.play.prepared_for(getattr(what, "metadata", None))
        await play_alone(play, look)
        if self.crashed:
            await play_crashing(play, look)


def _bare(projected: Callable[..., object]) -> Callable[..., object]:
    """Return the handler that a decorated one holds, or the one given."""
    if isinstance(projected, (Guarded, AsyncGuarded)):
        return cast("Guarded[Callable[..., object]]", projected).handler
    return projected


def _sentence(projected: object, begun: Given, by: _OnGuard | _Alone) -> Projected | AsyncProjected:
    awaits = by.play.is_async if isinstance(by, _Alone) else isinstance(projected, AsyncProjectionGuard)
    return AsyncProjected(begun, by) if awaits else Projected(begun, by)


class Projected:
    """Events and what projects them, blocking."""

    def __init__(self, begun: Given, by: _OnGuard | _Alone) -> None:
        self._begun = begun
        self._by = by

    def then(self, what: What, wanted: object) -> Projected:
        """Project, and raise `AssertionError` unless the read model is as wanted.

        `what` is a table or a query, and `wanted` its rows as dicts, in any order: columns that none of them names are
        not looked at. Or `what` is a function without arguments, and `wanted` what it returns. An event that could not
        be applied is an `AssertionError` with the handler's error. Each `then` projects anew.
        """
        __tracebackhide__ = True
        drive(self._by.check(self._begun.events, what, lambda connection: _look(connection, what, wanted)))
        return self


class AsyncProjected:
    """Events and what projects them, awaited."""

    def __init__(self, begun: Given, by: _OnGuard | _Alone) -> None:
        self._begun = begun
        self._by = by

    async def then(self, what: What, wanted: object) -> AsyncProjected:
        """Do what `Projected.then` does."""
        __tracebackhide__ = True
        await self._by.check(self._begun.events, what, lambda connection: _look(connection, what, wanted))
        return self


def _look(connection: Connection, what: What, wanted: object) -> None:
    __tracebackhide__ = True
    if callable(what):
        found = what()
        if found != wanted:
            raise AssertionError(f"wanted {wanted!r}, found {found!r}")
        return
    rows = _rows_of(wanted)
    named = {name: None for row in rows for name in row}
    found_rows = read_rows(connection, what)
    if rows:
        found_rows = [{name: row[name] for name in named if name in row} for row in found_rows]
    primary: list[str] = [column.name for column in getattr(what, "primary_key", ())]
    lines = differences(rows, found_rows, key=primary if primary and set(primary) <= named.keys() else ())
    if lines:
        raise AssertionError("\n  ".join(["The read model is not as wanted:", *lines]))


def _rows_of(wanted: object) -> Rows:
    if isinstance(wanted, Sequence) and all(isinstance(row, Mapping) for row in wanted):  # pyright: ignore[reportUnknownVariableType]
        return [dict(row) for row in wanted]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise InvalidArgument("then(table, rows) takes the rows as a list of dicts")
