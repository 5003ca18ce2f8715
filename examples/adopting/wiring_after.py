"""How the same application is put together with the guard. Events, store, projections and routes are what they were.

projection-guard db adopt --app examples.adopting.wiring_after:guard           # looks
projection-guard db adopt --app examples.adopting.wiring_after:guard --yes
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource

from .app import Services
from .events import Archived, DomainEvent, Renamed, Uploaded
from .projections import ActivityProjection, DocumentProjection
from .store import Database, EventStore

__all__ = ["engine_for", "guard", "make_guard", "services"]


KINDS: Mapping[str, type[DomainEvent]] = {kind.__name__: kind for kind in (Uploaded, Renamed, Archived)}


def event_of(row: Mapping[str, Any]) -> DomainEvent:
    """Make an event of a row of the store."""
    return KINDS[row["event_type"]](event_id=row["event_id"], aggregate_id=row["aggregate_id"], title=row["title"])


def engine_for(url: str) -> AsyncEngine:
    """Return an engine beside the application's pool: SQLAlchemy's, with the same driver."""
    return create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))


def make_guard(database: Database, engine: AsyncEngine) -> AsyncProjectionGuard:
    """Guard the projections, which follow the application's own event store."""
    source = AsyncSqlEventSource(engine, "events", sequence="position", stream_id="aggregate_id", decode=event_of)
    guard = AsyncProjectionGuard(engine, source=source)
    guard.register(DocumentProjection(database))
    guard.register(ActivityProjection(database))
    return guard


def guard() -> AsyncProjectionGuard:
    """Return the guard for the command line."""
    url = os.environ["DATABASE_URL"]
    return make_guard(Database(url), engine_for(url))


@asynccontextmanager
async def services(url: str) -> AsyncGenerator[Services]:
    """Put it together."""
    database, engine = Database(url), engine_for(url)
    await database.open()
    guard = make_guard(database, engine)
    await guard.migrate()
    async with guard, guard.worker():
        publisher = guard.publisher(wait=5.0)  # a request reads what it wrote, as before
        yield Services(database=database, store=EventStore(database), publisher=publisher)
    await engine.dispose()
    await database.close()
