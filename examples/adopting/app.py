"""The application: routes that append events and publish them. It knows nothing of who tracks failures.

DATABASE_URL=postgresql://... WIRING=after uvicorn --factory examples.adopting.app:app
"""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from fastapi import FastAPI

from .events import DomainEvent, Renamed, Uploaded
from .store import Database, EventStore

__all__ = ["Publisher", "Services", "app", "create_app"]


class Publisher(Protocol):
    """Brings an event to the projections."""

    async def publish(self, event: Any, /) -> object:
        """Bring it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the routes work with."""

    database: Database
    store: EventStore
    publisher: Publisher


class Wiring(Protocol):
    """The one file that differs."""

    def services(self, url: str, /) -> AbstractAsyncContextManager[Services]:
        """Put the application together, and take it apart in the end."""
        ...


def create_app(wiring: Wiring, url: str) -> FastAPI:
    """Return the application on a database."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with wiring.services(url) as services:
            app.state.services = services
            yield

    app = FastAPI(title="Documents", lifespan=lifespan)

    async def happened(event: DomainEvent) -> dict[str, str]:
        services: Services = app.state.services
        await services.store.append(event)
        await services.publisher.publish(event)
        return {"id": str(event.aggregate_id)}

    @app.post("/documents", status_code=201)
    async def upload(title: str) -> dict[str, str]:
        """Take a document in."""
        return await happened(Uploaded(aggregate_id=uuid4(), title=title))

    @app.put("/documents/{document}")
    async def rename(document: UUID, title: str) -> dict[str, str]:
        """Give it another title."""
        return await happened(Renamed(aggregate_id=document, title=title))

    @app.get("/documents/{document}/activity")
    async def activity(document: UUID) -> list[str]:
        """Read the read model."""
        pool = app.state.services.database.pool
        rows = await pool.fetch("SELECT what FROM activity WHERE document = $1 ORDER BY n", document)
        return [row["what"] for row in rows]

    return app


def app() -> FastAPI:
    """Return the application as the environment says; for `uvicorn --factory`."""
    wiring: Any = importlib.import_module(f"examples.adopting.wiring_{os.environ.get('WIRING', 'after')}")
    return create_app(wiring, os.environ["DATABASE_URL"])
