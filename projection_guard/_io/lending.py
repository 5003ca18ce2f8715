"""Whose call a connection is lent to: on SQLite, which has one writer, that call can have no other transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from ..errors import ConfigurationError
from .engines import LentConnection

__all__ = ["Lending", "lend", "refuse_second"]


@dataclass(frozen=True, slots=True)
class Lending:
    """A connection, and the task it was lent to; None for a thread's own call."""

    connection: LentConnection
    task: asyncio.Task[Any] | None


_within: Final[ContextVar[Lending | None]] = ContextVar("projection_guard_lending", default=None)


def lend(lending: Lending | None) -> Lending | None:
    """Say what the call that begins here is lent, and return what the one around it was; that is said at its end."""
    before = _within.get()
    _within.set(lending)
    return before


def refuse_second(engine: Engine) -> None:
    """Raise `ConfigurationError` where a handler asks for a transaction on the file whose writer it is.

    It would wait for its own end, until the lock's time is up. What a handler has begun and does not wait for, a task
    of its own, may wait; so may whatever goes on when the call is over.
    """
    lending = _within.get()
    if lending is None or not lending.connection.is_lent or not _is_same(lending.connection.engine, engine):
        return
    if lending.task is not None and lending.task is not _current_task():
        return
    raise ConfigurationError(
        "A handler with connection= asks the guard for a second transaction on the same SQLite database, by publishing "
        "or looking something up: it would wait for itself, for SQLite has one writer. Let a handler without "
        "connection= do that, or whoever publishes, after publish() has returned (docs/handlers.md)"
    )


def _is_same(one: Engine, other: Engine) -> bool:
    is_file = one.url.database not in (None, "", ":memory:")
    return one.pool is other.pool or (is_file and one.url.database == other.url.database)


def _current_task() -> asyncio.Task[Any] | None:
    with suppress(RuntimeError):  # no loop runs on this thread
        return asyncio.current_task()
    return None
