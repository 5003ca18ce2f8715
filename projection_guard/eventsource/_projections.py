"""Their projections under guard as they are: their handlers are called, their own retries and dead letters are not.

A projection of theirs wraps each event in retries with pauses, a dead letter queue and a checkpoint of its own. The
guard does all of that, so it calls what they call at each attempt: `_process_event(event)`. What could not be kept so
is refused when it is registered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict, Unpack, cast

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .._async_guard import AsyncGuarded, AsyncProjectionGuard
from .._desk import engine_of
from .._policy import RetryPolicy
from .._registration import AsyncReset, AsyncStreamReset, OrderName
from ..errors import RegistrationError
from ._library import LIBRARY

__all__ = ["Options", "register"]

_ADDED: tuple[str, ...] = ("handle", "_handle_with_retry", "_execute_in_transaction")
"""What adds retries, dead letters, a checkpoint, a transaction to `_process_event`: what no subclass may change."""


class Options(TypedDict, total=False):
    """What `AsyncProjectionGuard.register` takes beside an object and its name."""

    retry: RetryPolicy | None
    order: OrderName | None
    timeout: float
    on_reset: AsyncReset | None
    on_reset_stream: AsyncStreamReset | None
    partitions: int
    tables: Sequence[str]


class _Theirs(Protocol):
    """A `CheckpointTrackingProjection`, by what is used of it."""

    def subscribed_to(self) -> list[type]: ...
    async def _process_event(self, event: object) -> None: ...


def register(
    guard: AsyncProjectionGuard,
    projection: object,
    name: str | None = None,
    *,
    joined: bool | None = None,
    **options: Unpack[Options],
) -> AsyncGuarded[Callable[..., object]]:
    """Register a projection of `eventsource-py` as it is, by its class's name if none is given.

    A `DatabaseProjection` or `ReadModelProjection` joins the guard's transaction: its handlers are given the guard's
    connection, and have their effect exactly once. With `joined=False` they write in a transaction of its session
    factory, and are called at least once, as are those of every other projection. `joined=True` says that its database
    is the guard's where their URLs differ. Raises `RegistrationError` for what cannot be guarded.
    """
    chosen = name or type(projection).__name__
    if not isinstance(projection, LIBRARY.CheckpointTrackingProjection):
        if joined is not None:
            raise RegistrationError(
                f"{chosen!r} is no DatabaseProjection of eventsource-py: joined= says nothing of it"
            )
        return guard.register(projection, chosen, **options)
    theirs = cast("_Theirs", projection)
    _check_unchanged(theirs, chosen)
    if not isinstance(projection, LIBRARY.DatabaseProjection):
        if joined:
            raise RegistrationError(f"{chosen!r} has handlers that take no connection: they cannot join a transaction")
        return guard.register(_Apart(theirs), chosen, **options)
    if joined is False:
        return guard.register(_InItsOwnTransaction(theirs), chosen, **options)
    _check_can_join(theirs, chosen, engine_of(guard).url, is_said=joined is True)
    return guard.register(_Joined(theirs), chosen, **options)


class _Guarded:
    """What the guard registers in place of a projection; it takes the same events."""

    def __init__(self, theirs: _Theirs) -> None:
        self._theirs: Any = theirs
        self.on_reset = getattr(theirs, "on_reset", None)
        self.on_reset_stream = getattr(theirs, "on_reset_stream", None)

    def subscribed_to(self) -> list[type]:
        """Return the classes of events that it takes."""
        return list(self._theirs.subscribed_to())


class _Apart(_Guarded):
    """Writes wherever it writes."""

    async def handle(self, event: object) -> None:
        """Apply an event."""
        await self._theirs._process_event(event)


class _WithConnection(_Guarded):
    """A `DatabaseProjection`: it keeps the connection of the event in hand in itself, so there is one at a time."""

    def __init__(self, theirs: _Theirs) -> None:
        super().__init__(theirs)
        self._in_turn = asyncio.Lock()
        self._has_repository = isinstance(theirs, LIBRARY.ReadModelProjection)

    async def _process(self, event: object, connection: AsyncConnection) -> None:
        theirs = self._theirs
        async with self._in_turn:
            theirs._current_connection = connection
            try:
                if self._has_repository:
                    theirs._current_repository = await theirs._create_repository(connection)
                await theirs._process_event(event)
            finally:
                theirs._current_connection = None
                if self._has_repository:
                    theirs._current_repository = None


class _InItsOwnTransaction(_WithConnection):
    """Writes in a transaction of its own session factory."""

    async def handle(self, event: object) -> None:
        """Apply an event."""
        async with self._theirs._session_factory() as session, session.begin():
            await self._process(event, await session.connection())


class _Joined(_WithConnection):
    """Writes in the guard's transaction."""

    async def handle(self, event: object, connection: AsyncConnection) -> None:
        """Apply an event."""
        await self._process(event, connection)


def _check_unchanged(theirs: object, name: str) -> None:
    """Refuse what would silently be left out, or mean something else, under guard."""
    for kept, word in (("_checkpoint_repo", "checkpoint_repo"), ("_dlq_repo", "dlq_repo")):
        if getattr(theirs, kept) is not None:
            raise RegistrationError(
                f"Projection {name!r} was made with {word}=, which nobody would write to: the guard keeps the "
                f"checkpoint and the failures. Leave {word}= out"
            )
    for method in _ADDED:
        made_by: str = getattr(getattr(type(theirs), method, None), "__module__", "eventsource.")
        if not made_by.startswith("eventsource."):
            raise RegistrationError(
                f"Projection {name!r} has a {method}() of its own, which would not be called: the guard calls "
                "_process_event(). Put it there, or guard.register() an object whose handle(event) does it all"
            )
    if callable(getattr(theirs, "_tenant_filter", None)):
        raise RegistrationError(
            f"Projection {name!r} has a tenant_filter= that is asked at each event, and a worker's retry has not the "
            "caller's tenant. Give it a tenant's UUID, or look at event.tenant_id in the handler"
        )


def _check_can_join(theirs: Any, name: str, guards: URL, *, is_said: bool) -> None:
    if isinstance(theirs, LIBRARY.ReadModelProjection) and guards.get_backend_name() == "sqlite":
        raise RegistrationError(
            f"Projection {name!r} is a ReadModelProjection, whose repository commits by itself on SQLite: it cannot "
            "join the guard's transaction. Register it with joined=False: it is then called at least once"
        )
    bind: object = theirs._session_factory.kw.get("bind")
    if is_said or (isinstance(bind, AsyncEngine) and _place(bind.url) == _place(guards)):
        return
    raise RegistrationError(
        f"Projection {name!r} has a session factory that is not bound to the guard's database, as far as the URLs "
        "tell. joined=False lets it write there, called at least once; joined=True says that it is the same database"
    )


def _place(url: URL) -> tuple[object, ...]:
    if url.get_backend_name() == "sqlite":
        return "sqlite", os.path.realpath(url.database or "")
    return url.get_backend_name(), url.host, url.port or 5432, url.database
