"""What a command is, and how one that needs a guard gets it.

A new one is a `Command` in a module of its own, and a line in `_commands`. Its `run` is made of a coroutine by
`at_database` (the schema may be missing), `on_records` (looks, and what needs no handlers), or `with_handlers`; one
that runs the guard in its own way, as a worker does, is a plain function of `Asked`: `_finding.guard_of` finds it.
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from .. import _desk
from .._async_guard import AsyncProjectionGuard
from .._io.protocol import drive
from .._on_record import OnRecord, on_record
from .._service import Service
from ..errors import UnknownProjection
from ._beside import Beside, as_task, in_thread
from ._exits import Refused
from ._finding import AnyGuard, guard_of, is_bare
from ._screen import Screen

__all__ = ["Asked", "Call", "Command", "Do", "at_database", "on_records", "with_handlers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command line that was understood, and where to write."""

    options: Namespace
    screen: Screen


def _no_options(_: ArgumentParser) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: the words that call it, one line of help, what can be said with it, and what it does."""

    words: str
    help: str
    run: Callable[[Asked], int]
    options: Callable[[ArgumentParser], None] = _no_options
    has_guard: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A command that is being run. `service` is the guard's own, which meets the database as an application does."""

    options: Namespace
    screen: Screen
    guard: AnyGuard
    service: Service
    is_bare: bool
    beside: Beside
    _found: OnRecord | None = None

    @property
    def found(self) -> OnRecord:
        """The projections that the database knows."""
        assert self._found is not None
        return self._found

    @property
    def records(self) -> Service:
        """Those projections' service: looking changes nothing."""
        return self.found.service

    def known(self, name: str) -> str:
        """Return a projection's name. Raises `UnknownProjection` where the database has no record of it."""
        if name in self.found.known:
            return name
        if name in self.found.unrecorded:
            raise UnknownProjection(
                f"Projection {name!r} is registered, but the database has no record of it yet: no process has run it"
            )
        known = ", ".join(repr(each) for each in self.found.known) or "none"
        raise UnknownProjection(f"No projection is named {name!r}; on record are: {known}")

    def here(self, name: str) -> str:
        """Return the name of a projection whose handler is here. Raises `UnknownProjection`."""
        if name in self.service.projections:
            return name
        if name in self.found.detached:
            raise UnknownProjection(
                f"Projection {name!r} is in the database, but the application does not register it: there is no "
                "handler here to run it with"
            )
        self.service.named(name)
        return name


Do = Callable[[Call], Coroutine[object, None, int]]


def at_database(do: Do, *, makes_it: bool = False) -> Callable[[Asked], int]:
    """Run a command that takes nothing for granted of the tables; `makes_it`: a file that is not there is made."""
    return lambda asked: _run(asked, do, must_exist=not makes_it, looks=False)


def on_records(do: Do) -> Callable[[Asked], int]:
    """Run a command for the projections that the database knows, with or without their handlers."""
    return lambda asked: _run(asked, do, must_exist=True, looks=True)


def with_handlers(do: Do) -> Callable[[Asked], int]:
    """Run a command that calls handlers, or the functions that clear read models: an application has them."""

    def run(asked: Asked) -> int:
        if is_bare(asked.options):
            raise needs_handlers(f"{asked.options.command}")
        return _run(asked, do, must_exist=True, looks=True)

    return run


def needs_handlers(what: str) -> Refused:
    """Say that a database is not enough."""
    return Refused(
        kind="needs-handlers",
        detail=f"{what} needs the projections' handlers, which a database does not have: give --app module:attribute",
    )


def _run(asked: Asked, do: Do, *, must_exist: bool, looks: bool) -> int:
    bare = is_bare(asked.options)
    guard = guard_of(asked.options, asked.screen.hidden, must_exist=must_exist)
    service = _desk.service_of(guard)

    async def run(beside: Beside) -> int:
        found = await on_record(service) if looks else None
        return await do(
            Call(
                options=asked.options,
                screen=asked.screen,
                guard=guard,
                service=service,
                is_bare=bare,
                beside=beside,
                _found=found,
            )
        )

    if isinstance(guard, AsyncProjectionGuard):
        return asyncio.run(_closing(guard, service, run))
    try:
        with guard:
            return drive(run(in_thread))
    finally:
        drive(_close_source(service))
        _desk.engine_of(guard).dispose()


async def _closing(
    guard: AsyncProjectionGuard, service: Service, run: Callable[[Beside], Coroutine[object, None, int]]
) -> int:
    """Close what the application would close when it ends, too: here it is the command that ends."""
    try:
        async with guard:
            return await run(as_task)
    finally:
        await _close_source(service)
        await AsyncEngine(_desk.engine_of(guard)).dispose()


async def _close_source(service: Service) -> None:
    if service.on_log.is_there:
        await service.on_log.log.close()
