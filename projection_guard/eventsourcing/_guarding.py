"""Registers a projection of the library, with its view, on a guard that follows its application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict, Unpack, overload

from eventsourcing.persistence import IntegrityError, TrackingRecorder
from eventsourcing.projection import EventSourcedProjection, Projection
from eventsourcing.utils import TopicError, resolve_topic
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from .._async_guard import AsyncGuarded, AsyncProjectionGuard
from .._desk import engine_of, service_of
from .._guard import Guarded, ProjectionGuard
from .._policy import RetryPolicy
from .._registration import OrderName
from ..errors import ConfigurationError, RegistrationError
from ._source import ApplicationSource
from ._tracking import Tracked

__all__ = ["guard_projection"]

Anything = Callable[..., Any]  # awaited by an async guard


class ProjectionOptions(TypedDict, total=False):
    """What can be said of a projection, as `ProjectionGuard.register` takes it; the order is "stream" if not given."""

    retry: RetryPolicy | None
    order: OrderName
    timeout: float
    on_reset: Anything | None
    on_reset_stream: Anything | None
    partitions: int


@overload
def guard_projection(
    guard: ProjectionGuard,
    projection: Projection[Any] | EventSourcedProjection[Any],
    name: str | None = None,
    **options: Unpack[ProjectionOptions],
) -> Guarded[Anything]: ...
@overload
def guard_projection(
    guard: AsyncProjectionGuard,
    projection: Projection[Any] | EventSourcedProjection[Any],
    name: str | None = None,
    **options: Unpack[ProjectionOptions],
) -> AsyncGuarded[Anything]: ...
def guard_projection(
    guard: ProjectionGuard | AsyncProjectionGuard,
    projection: Projection[Any] | EventSourcedProjection[Any],
    name: str | None = None,
    **options: Unpack[ProjectionOptions],
) -> Guarded[Anything] | AsyncGuarded[Anything]:
    """Register a projection of the library, made with its view, under its own name if none is given.

    The guard follows an `ApplicationSource`. `process_event` is called with the domain event and a `Tracking` of the
    event's stream, so that it is tracked once, and an event that heals late is not refused. Its `topics` are kept to.
    `on_reset(connection)` clears the view, `on_reset_stream(connection, stream_id)` one stream of it (awaited by an
    async guard); without them rebuilding and replaying a stream are refused. What was tracked is forgotten with it.
    Raises `RegistrationError` where view and guard cannot be combined safely.
    """
    chosen = name or projection.name or type(projection).__name__
    source = _source_of(guard, chosen)
    if options.setdefault("order", "stream") == "none":
        raise RegistrationError(
            f"Projection {chosen!r} tracks its events by stream: with order='none' one that heals late would be taken "
            "for done; use order='stream' or 'global'"
        )
    view: TrackingRecorder = projection.recorder if isinstance(projection, EventSourcedProjection) else projection.view
    tracked = Tracked(view, source.application_name, chosen, engine_of(guard))
    is_async = isinstance(guard, AsyncProjectionGuard)
    options["on_reset"] = _reset(tracked, options.get("on_reset"), chosen, is_async=is_async)
    options["on_reset_stream"] = _reset_stream(tracked, options.get("on_reset_stream"), chosen, is_async=is_async)
    return guard.register(_Handling(projection, _classes_of(projection, chosen), source, tracked), chosen, **options)


def _source_of(guard: ProjectionGuard | AsyncProjectionGuard, name: str) -> ApplicationSource:
    on_log = service_of(guard).on_log
    source = on_log.log.source if on_log.is_there else None
    if not isinstance(source, ApplicationSource):
        raise RegistrationError(
            f"Projection {name!r} cannot be guarded here: its events are those of an application; make the guard with "
            "source=ApplicationSource(application)"
        )
    return source


def _classes_of(projection: Any, name: str) -> frozenset[type] | None:
    """Return the classes that a projection's topics name; None where it takes all events."""
    try:
        return frozenset(resolve_topic(topic) for topic in projection.topics) or None
    except TopicError as error:
        raise RegistrationError(f"Projection {name!r} names a topic that does not resolve: {error}") from error


class _Handling:
    """A projection of the library as the guard calls it."""

    applies_again = False
    """Its view refuses what it has tracked: a range that is replayed would change nothing, and say that it had."""

    def __init__(
        self, projection: Any, classes: frozenset[type] | None, source: ApplicationSource, tracked: Tracked
    ) -> None:
        self._process = projection.process_event
        self._classes = classes
        self._source = source
        self._tracked = tracked

    def can_handle(self, event: object) -> bool:
        """Return whether it is of a class that the projection's topics name."""
        return self._classes is None or type(event) in self._classes

    def handle(self, event: Any) -> None:
        """Call the projection; done already (a crash came between the view's commit and the guard's) is done."""
        sequence = self._source.notification_id_of(event)
        tracking = self._tracked.of(str(event.originator_id), sequence)
        if self._tracked.was_done_by_runner(tracking):
            return
        try:
            self._process(event, tracking)
        except IntegrityError:
            if not self._tracked.has(tracking):  # it is another one: a constraint of the view's own
                raise


def _reset(tracked: Tracked, clear: Anything | None, name: str, *, is_async: bool) -> Anything:
    def reset(connection: Connection) -> None:
        _call(clear, name, connection)
        tracked.forget(connection)

    async def reset_async(connection: AsyncConnection) -> None:
        await _await(clear, name, connection)
        await _forget(tracked, connection, None)

    return reset_async if is_async else reset


def _reset_stream(tracked: Tracked, clear: Anything | None, name: str, *, is_async: bool) -> Anything:
    def reset(connection: Connection, stream_id: str) -> None:
        _call(clear, name, connection, stream_id)
        tracked.forget(connection, stream_id)

    async def reset_async(connection: AsyncConnection, stream_id: str) -> None:
        await _await(clear, name, connection, stream_id)
        await _forget(tracked, connection, stream_id)

    return reset_async if is_async else reset


async def _forget(tracked: Tracked, connection: AsyncConnection, stream_id: str | None) -> None:
    await connection.run_sync(lambda sync: tracked.forget(sync, stream_id))


def _call(clear: Anything | None, name: str, *arguments: object) -> None:
    if clear is None:
        raise _nothing_to_clear(name)
    clear(*arguments)


async def _await(clear: Anything | None, name: str, *arguments: object) -> None:
    if clear is None:
        raise _nothing_to_clear(name)
    awaited: Any = clear(*arguments)
    await asyncio.ensure_future(awaited)


def _nothing_to_clear(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"Projection {name!r} has no on_reset= (or on_reset_stream=) that clears its view, which refuses what it has "
        "already: give one to guard_projection"
    )
