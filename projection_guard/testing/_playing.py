"""How the events of a `given(...)` sentence come to a handler: once, redelivered, or with a crash at each point."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import update_wrapper
from inspect import isawaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import stop_after_attempt, wait_none

from .._async_guard import AsyncProjectionGuard
from .._desk import service_of
from .._encryption import EventCodec
from .._guard import ProjectionGuard
from .._mapping import EventMapping
from .._policy import RetryPolicy
from ._crashes import CrashOfSweep, crash_sweep
from ._guards import AnyGuard, answer_of, check_all_is_applied, in_the_database
from ._time import advance

__all__ = ["Play", "play_alone", "play_crashing", "play_on"]

NAME = "Given"
_ONCE = RetryPolicy(wait=wait_none(), stop=stop_after_attempt(1), breaker=None)
_MOST_ROUNDS = 20
_WHERE_IT_MATTERS = ("before handler", "after handler", "before commit", "after commit")  # else all is undone alike
_LONGER_THAN_A_LEASE = timedelta(minutes=1)
Look = Callable[[Connection], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A handler and what it is given."""

    events: tuple[object, ...]
    handler: Callable[..., object]
    is_async: bool
    redelivered: bool
    prepare: MetaData | Callable[[Connection], object] | None
    database: str | Engine | AsyncEngine | None
    order: str
    mapping: EventMapping | None
    codec: EventCodec | None

    def prepared_for(self, metadata: MetaData | None) -> Play:
        """Return the same; where nothing was said of tables, these are made."""
        return self if self.prepare is not None else replace(self, prepare=metadata)

    def guard(self, database: str | Engine | AsyncEngine) -> AnyGuard:
        """Make a guard with the handler as its one projection."""
        kind: Any = AsyncProjectionGuard if self.is_async else ProjectionGuard
        guard: AnyGuard = kind(
            database, retry=_ONCE, order=self.order, mapping=self.mapping, codec=self.codec, worker="external"
        )
        handler: Any = _called_twice(self.handler) if self.redelivered else self.handler
        guard.projection(NAME, handles=list({type(event): None for event in self.events}) or None)(handler)
        return guard

    async def make_ready(self, guard: AnyGuard) -> None:
        """Make the read model's tables, or do what else the author has said."""
        prepare = self.prepare
        if prepare is not None:
            make: Callable[[Connection], object] = prepare.create_all if isinstance(prepare, MetaData) else prepare
            await in_the_database(guard, make)


def _called_twice(handler: Callable[..., object]) -> Callable[..., object]:
    """Return a handler whose process dies, if it writes elsewhere, after its effect and before that is on record."""

    class Twice:
        def __call__(self, event: object, *connection: object) -> object:
            first: Any = handler(event, *connection)
            if connection:
                return first
            return _second(first, handler, event) if isawaitable(first) else handler(event)

    return update_wrapper(Twice(), handler)


async def _second(first: Awaitable[object], handler: Callable[..., Any], event: object) -> None:
    await first
    await handler(event)


async def play_on(guard: AnyGuard, name: str, events: Sequence[object], look: Look, *, redelivered: bool) -> None:
    """Bring the events to a projection, each applied, and look."""
    await _deliver(guard, name, events, redelivered=redelivered)
    await in_the_database(guard, look)


async def play_alone(play: Play, look: Look) -> None:
    """Bring the events to the handler on a database of its own, or the one that was given, and look."""
    with TemporaryDirectory(prefix="projection_guard-") as folder:
        guard = play.guard(play.database or f"sqlite:///{folder}/given.db")
        try:
            await answer_of(guard.migrate())
            await play.make_ready(guard)
            await play_on(guard, NAME, play.events, look, redelivered=play.redelivered)
        finally:
            await answer_of(guard.close())


async def play_crashing(play: Play, look: Look) -> None:
    """Do the same with a crash at the first point, the second, and so on, each time started again; and look."""
    with TemporaryDirectory(prefix="projection_guard-") as folder:
        empty = Path(folder) / "empty.db"
        migrated = play.guard(f"sqlite:///{empty}")
        await answer_of(migrated.migrate())
        await answer_of(migrated.close())
        for crash in crash_sweep(at=_WHERE_IT_MATTERS):
            path = Path(folder) / f"{crash.number}.db"
            shutil.copyfile(empty, path)
            try:
                await _die(play, f"sqlite:///{path}", crash)
                await _start_again(play, f"sqlite:///{path}", look)
            except AssertionError as error:
                where = "a run without a crash" if crash.point is None else f"a crash {crash.point}"
                raise AssertionError(f"{error}\n(after {where}, a restart and a redelivery)") from error
            path.unlink()


async def _die(play: Play, database: str, crash: CrashOfSweep) -> None:
    guard = play.guard(database)
    try:
        await play.make_ready(guard)
        await service_of(guard).open()  # the first contact with the database is nothing of the handler's
        with crash(guard):
            for event in play.events:
                await answer_of(guard.apply(NAME, event))
    finally:
        await answer_of(guard.close())


async def _start_again(play: Play, database: str, look: Look) -> None:
    """Be the process that was started again: leases have run out, the publisher delivers again, a worker works."""
    guard = play.guard(database)
    try:
        await answer_of(advance(guard, _LONGER_THAN_A_LEASE))
        for event in play.events:
            await answer_of(guard.apply(NAME, event))
        for _ in range(_MOST_ROUNDS):
            if (await answer_of(guard.health(NAME))).parked_events == 0:
                break
            await answer_of(advance(guard, _LONGER_THAN_A_LEASE))
            await answer_of(guard.worker().run_once())
        await check_all_is_applied(guard, NAME)
        await in_the_database(guard, look)
    finally:
        await answer_of(guard.close())


async def _deliver(guard: AnyGuard, name: str, events: Sequence[object], *, redelivered: bool) -> None:
    for event in events:
        await answer_of(guard.apply(name, event))
        if redelivered:
            await answer_of(guard.apply(name, event))
    if redelivered:
        for event in events:
            await answer_of(guard.apply(name, event))
    await check_all_is_applied(guard, name)
