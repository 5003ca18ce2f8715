"""A projection that joins the guard's transaction: its effect is there exactly once, with the SQL that it had.

On a guard with asyncpg the connection that it is given is, at the bottom, asyncpg's own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from .events import Archived, DomainEvent, Renamed, Uploaded

__all__ = ["JoinedActivityProjection"]


class JoinedActivityProjection:
    """The same read model as that of `ActivityProjection`: each line is there once, whatever is retried."""

    def handles(self) -> list[type[DomainEvent]]:
        """Say which events it takes."""
        return [Uploaded, Renamed, Archived]

    async def handle(self, event: DomainEvent, connection: AsyncConnection) -> None:
        """Apply one, in the guard's transaction."""
        asyncpgs: Any = (await connection.get_raw_connection()).driver_connection
        await asyncpgs.execute(
            "INSERT INTO activity (document, what) VALUES ($1, $2)",
            event.aggregate_id,
            f"{event.event_type} {event.title}",
        )
