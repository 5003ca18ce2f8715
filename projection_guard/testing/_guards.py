"""For both kinds of guard: what is written once, as a coroutine, is driven for the one and awaited for the other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from .._async_guard import AsyncProjectionGuard
from .._desk import service_of
from .._guard import ProjectionGuard
from .._io.protocol import drive

__all__ = ["AnyGuard", "answer_of", "as_the_guard", "check_all_is_applied", "in_the_database"]

T = TypeVar("T")
AnyGuard = ProjectionGuard | AsyncProjectionGuard


def as_the_guard(guard: AnyGuard, work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None] | None:
    """Return what a blocking guard's work comes to, or for an async guard the coroutine, to be awaited."""
    try:
        service_of(guard)  # says clearly what else was given
    except BaseException:
        work.close()
        raise
    return work if isinstance(guard, AsyncProjectionGuard) else drive(work)


async def answer_of(called: object) -> Any:
    """Return what a guard's method came to, whichever kind of guard it is."""
    return await called if isawaitable(called) else called


async def in_the_database(guard: AnyGuard, work: Callable[[Connection], T]) -> T:
    """Do something in a transaction of the application's: nothing of the guard's stands between."""
    engine = guard._engine  # pyright: ignore[reportPrivateUsage]
    if isinstance(guard, AsyncProjectionGuard):
        async with cast("Any", engine).begin() as connection:
            return cast("T", await connection.run_sync(work))
    with cast("Any", engine).begin() as connection:
        return work(connection)


async def check_all_is_applied(guard: AnyGuard, name: str) -> None:
    """Raise `AssertionError` if an event of a projection has failed, with the handler's error, or waits."""
    for failure in reversed((await answer_of(guard.failures(name))).items):  # what was wrong first comes last
        raise AssertionError(
            f"{name!r} could not apply event {failure.event_id!r} ({failure.event_type}): "
            f"{failure.error_type}: {failure.error_message}\n{failure.error_traceback or ''}"
        )
    health = await answer_of(guard.health(name))
    if health.parked_events:
        raise AssertionError(f"{health.parked_events} events of {name!r} are parked, not applied")
