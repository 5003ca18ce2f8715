"""The application's event store: one table, in PostgreSQL, reached by asyncpg."""

from __future__ import annotations

from typing import Any

import asyncpg

from .events import DomainEvent

__all__ = ["Database", "EventStore"]

TABLES = """
CREATE TABLE IF NOT EXISTS events (
    position bigserial PRIMARY KEY, event_id uuid NOT NULL UNIQUE, event_type text NOT NULL,
    aggregate_id uuid NOT NULL, title text NOT NULL);
CREATE TABLE IF NOT EXISTS documents (id uuid PRIMARY KEY, title text NOT NULL, revision integer NOT NULL);
CREATE TABLE IF NOT EXISTS activity (n bigserial PRIMARY KEY, document uuid NOT NULL, what text NOT NULL);
"""


class Database:
    """Owns the pool, which there is once the application runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool: Any = None

    async def open(self) -> None:
        """Connect, and make the tables."""
        self._pool = await asyncpg.create_pool(self.url, min_size=1, max_size=4)
        await self._pool.execute(TABLES)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    @property
    def pool(self) -> Any:
        """The pool."""
        return self._pool


class EventStore:
    """Appends events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, event: DomainEvent) -> None:
        """Append one."""
        await self._database.pool.execute(
            "INSERT INTO events (event_id, event_type, aggregate_id, title) VALUES ($1, $2, $3, $4)",
            event.event_id,
            event.event_type,
            event.aggregate_id,
            event.title,
        )
