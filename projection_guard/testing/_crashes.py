"""A guard that dies, or loses its connection, at a point of its flow.

    with crash_at(guard, "after commit"):
        publisher.publish(event)             # committed, and nobody was told
    guard.apply("Balances", event)           # the same process, started again

Use it where the guard works in the test's own thread or task (`publish`, `apply`, `worker().run_once()`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, cast, get_args

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from .._desk import service_of
from .._io.protocol import IO
from ..errors import InvalidArgument, StoreUnavailable
from ._faults import KILLED
from ._guards import AnyGuard
from ._points import CRASH_POINTS, CrashPoint, Passing, Step, point_of
from ._watched import Crash, WatchedIO

__all__ = ["CrashOfSweep", "How", "crash_at", "crash_sweep"]

How = Literal["die", "exit", "disconnect"]
_MOST_POINTS = 10_000


class _Break:
    """Does at the point that is meant what `how` says."""

    def __init__(self, how: How, is_meant: Callable[[CrashPoint], bool]) -> None:
        self.passing = Passing(is_meant)
        self._how = how
        self._is_dead = False

    def check_alive(self) -> None:
        if self._is_dead:
            raise Crash("the process is dead")

    def step(self, step: Step, connection: Callable[[], Connection | None]) -> AbstractContextManager[None]:
        return self.passing.step(step, lambda point: self._strike(point, connection()))

    def _strike(self, point: CrashPoint, connection: Connection | None) -> None:
        match self._how:
            case "exit":
                os._exit(KILLED)
            case "die":
                self._is_dead = True
                raise Crash(str(point))
            case _:
                _disconnect(connection, point)


def _disconnect(connection: Connection | None, point: CrashPoint) -> None:
    """Cut the link. What is sent next finds that out; after a statement or a commit, its reply is what was lost."""
    if point.kind == "before begin":
        raise StoreUnavailable("injected: no connection is to be had; deliver the event again")
    if connection is not None and not connection.closed and not connection.invalidated:
        driver: Any = connection.connection.driver_connection
        driver.pgconn.finish()
        if point.side == "before" or point.step == "begin":
            return
    if point.step == "handler":  # an apart one has no connection of ours
        return
    lost = ConnectionError("injected: the connection was lost")
    raise OperationalError(str(point), None, lost, connection_invalidated=True)


def crash_at(guard: AnyGuard, point: str, *, how: How = "die") -> AbstractContextManager[None, bool]:
    """Let a guard break when it comes to a point (`CRASH_POINTS`) inside the `with` block, which ends there.

    "die": the process counts as dead. `Crash`, which no code for `Exception` catches, is raised through the flow; the
    guard sends nothing any more; what was not committed is undone. After the block the same guard is the process,
    started again: what it held by a lease is free once that has run out (`advance`). "exit": the process really ends,
    with status 137. "disconnect" (PostgreSQL): the connection is lost, and the guard goes on by itself.

    Raises `AssertionError` if the block ended without coming to the point, and `InvalidArgument`.
    """
    return cast("AbstractContextManager[None, bool]", _crashing_at(guard, point, how))


@contextmanager
def _crashing_at(guard: AnyGuard, point: str, how: How) -> Generator[None]:
    meant = point_of(point)
    with _broken(guard, how, lambda passed: passed == meant) as passing:
        yield
    if passing.struck is None:
        came_by = ", ".join(map(str, passing.passed)) or "nothing"
        raise AssertionError(f"The guard never came to the point {meant}. It came by: {came_by}")


@contextmanager
def _broken(guard: AnyGuard, how: How, is_meant: Callable[[CrashPoint], bool]) -> Generator[Passing]:
    if how not in get_args(How):
        raise InvalidArgument(f"how= takes one of {', '.join(get_args(How))}, not {how!r}")
    service = service_of(guard)
    if how == "disconnect" and guard._engine.dialect.name == "sqlite":  # pyright: ignore[reportPrivateUsage]
        raise InvalidArgument("SQLite has no connection that could be lost; use PostgreSQL, or how='die'")
    real, breaking = service.context.io, _Break(how, is_meant)
    service.context.io = cast("IO", WatchedIO(real, breaking))
    try:
        yield breaking.passing
    except Crash:
        if breaking.passing.struck is None:
            raise
    finally:
        service.context.io = real


class CrashOfSweep:
    """One run of `crash_sweep`: call it with the guard, as `with crash(guard):`.

    `number` counts the runs from 1; `point` is where it struck, None in the last run, in which it did not.
    """

    def __init__(self, number: int, how: How, at: Collection[str]) -> None:
        self.number = number
        self.point: CrashPoint | None = None
        self.came_by: tuple[CrashPoint, ...] | None = None
        self._how: How = how
        self._at = frozenset(at)

    def __call__(self, guard: AnyGuard) -> AbstractContextManager[None, bool]:
        """Let the guard break at the point whose turn it is in this run; the `with` block ends there."""
        return cast("AbstractContextManager[None, bool]", self._crashing(guard))

    @contextmanager
    def _crashing(self, guard: AnyGuard) -> Generator[None]:
        left = self.number

        def is_its_turn(point: CrashPoint) -> bool:
            nonlocal left
            left -= point.kind in self._at
            return left == 0

        with _broken(guard, self._how, is_its_turn) as passing:
            yield
        self.point, self.came_by = passing.struck, tuple(passing.passed)


def crash_sweep(*, how: How = "die", at: Collection[str] = CRASH_POINTS) -> Iterator[CrashOfSweep]:
    """Yield one crash after the other, at the first point, the second, ..., until a run has survived.

        for crash in crash_sweep():
            with crash(guard):
                publisher.publish(Opened(f"A{crash.number}"))
            ...                                     # start again, and look: also after the last run

    Each run needs new events, or a new database. `at` leaves out kinds of points: ("before commit", "after commit") are
    those between which the database knows a difference. Raises `AssertionError` where nothing was there to break.
    """
    if not at:
        raise InvalidArgument("at= is empty: a sweep that breaks nothing proves nothing")
    if unknown := [kind for kind in at if kind not in CRASH_POINTS]:
        raise InvalidArgument(f"at= takes of {', '.join(CRASH_POINTS)}; not {unknown[0]!r}")
    if how == "exit":
        raise InvalidArgument("A sweep goes on in this process; use crash_at(..., how='exit') in one of its own")
    for number in range(1, _MOST_POINTS + 1):
        crash = CrashOfSweep(number, how, at)
        yield crash
        if crash.came_by is None:
            raise AssertionError("The body of a sweep never said `with crash(guard):`")
        if crash.point is None:
            if number == 1:
                raise AssertionError(_nothing_broken(crash.came_by, at))
            return
    raise AssertionError(f"No run was survived after {_MOST_POINTS} points")


def _nothing_broken(came_by: Collection[CrashPoint], at: Collection[str]) -> str:
    if not came_by:
        return "The guard came by no point at all: what is in the block does nothing with it"
    passed = ", ".join(map(str, came_by))
    return f"The guard came by none of {', '.join(at)}, so nothing was broken. It came by: {passed}"
