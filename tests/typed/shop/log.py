"""Event logs of one's own, as sources."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from projection_guard import (
    AsyncEventSource,
    AsyncProjectionGuard,
    AsyncSqlEventSource,
    Batch,
    EventSource,
    ProjectionGuard,
    Recorded,
    Share,
    SqlEventSource,
    check_range,
)
from projection_guard.iterators import IterableSource

from .events import Event


class ListSource:
    """A log in memory; nothing of the library is inherited."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return what comes after."""
        check_range(after, limit, until)
        found = [
            Recorded(sequence=event.sequence, event=event)
            for event in self._events
            if after < event.sequence <= (until or event.sequence)
        ][:limit]
        return Batch(events=found, position=found[-1].sequence if found else after)

    def head(self) -> int:
        """Return the highest sequence."""
        return max((event.sequence for event in self._events), default=0)


class AwaitedSource:
    """The same, awaited; it can leave out what is others'."""

    def __init__(self, inner: EventSource) -> None:
        self._inner = inner

    async def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return what comes after."""
        batch = self._inner.read(after, limit, until)
        if share is None:
            return batch
        ours = [each for each in batch.events if share.has(None, str(each.sequence))]
        return Batch(events=ours, position=batch.position)

    async def head(self) -> int:
        """Return the highest sequence."""
        return self._inner.head()


def followed(engine: Engine, awaited: AsyncEngine, events: Sequence[Event]) -> tuple[EventSource, AsyncEventSource]:
    """Give them to guards."""
    plain: EventSource = ListSource(events)
    later: AsyncEventSource = AwaitedSource(plain)
    ProjectionGuard(engine, source=ListSource(events), worker="external").close()
    ProjectionGuard(engine, source=SqlEventSource(engine, "events"), worker="external").close()
    ProjectionGuard(engine, source=IterableSource(events), worker="external").close()
    for source in (later, plain, AsyncSqlEventSource(awaited, "events")):
        AsyncProjectionGuard(awaited, source=source, worker="external")
    return plain, later
