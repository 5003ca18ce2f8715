"""The application's projections: `async handle(event)` and `handles()`, writing through the pool."""

from __future__ import annotations

from .events import Archived, DomainEvent, Renamed, Uploaded
from .store import Database

__all__ = ["ActivityProjection", "DocumentProjection"]


class DocumentProjection:
    """What documents there are. Written so that to apply an event twice does no harm."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handles(self) -> list[type[DomainEvent]]:
        """Say which events it takes."""
        return [Uploaded, Renamed]

    async def handle(self, event: DomainEvent) -> None:
        """Apply one."""
        if isinstance(event, Uploaded):
            await self._database.pool.execute(
                "INSERT INTO documents (id, title, revision) VALUES ($1, $2, 1) ON CONFLICT (id) DO NOTHING",
                event.aggregate_id,
                event.title,
            )
        else:
            await self._database.pool.execute(
                "UPDATE documents SET title = $2, revision = revision + 1 WHERE id = $1 AND title <> $2",
                event.aggregate_id,
                event.title,
            )


class ActivityProjection:
    """What has happened to each document, one line an event."""

    breaks_on: frozenset[str] = frozenset()
    """Titles at which it fails: the bug of this example, until it is mended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handles(self) -> list[type[DomainEvent]]:
        """Say which events it takes."""
        return [Uploaded, Renamed, Archived]

    async def handle(self, event: DomainEvent) -> None:
        """Apply one."""
        if event.title in self.breaks_on:
            raise KeyError("title")
        await self._database.pool.execute(
            "INSERT INTO activity (document, what) VALUES ($1, $2)",
            event.aggregate_id,
            f"{event.event_type} {event.title}",
        )
