"""How the application is put together with its own tracker: failures are written down, and nobody retries them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from .app import Services
from .events import DomainEvent
from .projections import ActivityProjection, DocumentProjection
from .store import Database, EventStore
from .tracker import FailureTracker

__all__ = ["services"]


class InProcessPublisher:
    """Brings each event to each projection that takes it."""

    def __init__(self, projections: Sequence[DocumentProjection | ActivityProjection], tracker: FailureTracker) -> None:
        self._projections = projections
        self._tracker = tracker

    async def publish(self, event: DomainEvent) -> None:
        """Publish it; who fails is tracked, and the others go on."""
        for projection in self._projections:
            if not isinstance(event, tuple(projection.handles())):
                continue
            name = type(projection).__name__
            try:
                await projection.handle(event)
            except Exception as error:
                await self._tracker.failed(name, event, error)
            else:
                await self._tracker.succeeded(name, event)


@asynccontextmanager
async def services(url: str) -> AsyncGenerator[Services]:
    """Put it together."""
    database = Database(url)
    await database.open()
    tracker = FailureTracker(database)
    await tracker.make_tables()
    publisher = InProcessPublisher([DocumentProjection(database), ActivityProjection(database)], tracker)
    yield Services(database=database, store=EventStore(database), publisher=publisher)
    await database.close()
