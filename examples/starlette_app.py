"""A document service in Starlette whose read model heals by itself, with health and admin routes behind API keys.

    pip install 'projection-guard[starlette,aiosqlite]' uvicorn
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/starlette_app.py

    curl -X POST localhost:8000/documents -H 'Content-Type: application/json' -d '{"title": "Minutes"}'
    curl localhost:8000/documents
    curl localhost:8000/api/v1/health/projections
    curl -H 'Authorization: Bearer change-me' localhost:8000/api/v1/admin/projections/status

A title with "poison" in it fails in the projection: open http://localhost:8000/dashboard/ (any name, the key as the
password), look at it, and resolve it.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import uvicorn
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from projection_guard import AsyncProjectionGuard
from projection_guard.starlette import Actor, admin_routes, dashboard_routes, health_routes

DATABASE = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///documents.db")
OPERATOR, VIEWER = os.environ.get("OPERATOR_KEY"), os.environ.get("VIEWER_KEY")
KEYS: dict[str, Actor] = {}
if OPERATOR:
    KEYS[OPERATOR] = Actor(name="operator", role="operator")
if VIEWER:  # where both keys are one, it is for looking only
    KEYS[VIEWER] = Actor(name="viewer", role="viewer")


def who(request: Request) -> Actor | None:
    """Say whose key a request carries: as a token, or as the password that a browser asks for. Others are nobody."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[2]
        except ValueError:
            return None
    elif scheme != "Bearer":
        return None
    return next((actor for key, actor in KEYS.items() if hmac.compare_digest(given.encode(), key.encode())), None)


def visitor(request: Request) -> Actor:
    """Say who looks at the dashboard; of a browser that does not say so a password is asked."""
    actor = who(request)
    if actor is None:
        raise HTTPException(401, "Give your key as the password", headers={"WWW-Authenticate": "Basic"})
    return actor


@dataclass(frozen=True)
class DocumentUploaded:
    """What happened. This service has no event store of its own: its events are pushed."""

    event_id: str
    stream_id: str
    title: str


engine = create_async_engine(DATABASE)
guard = AsyncProjectionGuard(engine)
publisher = guard.publisher()


@guard.projection("DocumentProjection", handles=[DocumentUploaded])
async def documents(event: DocumentUploaded, connection: AsyncConnection) -> None:
    """Write the read model, in the guard's transaction: exactly once."""
    if "poison" in event.title:
        raise ValueError("this title cannot be filed")
    await connection.execute(
        text("INSERT INTO documents (id, title) VALUES (:id, :title)"), {"id": event.stream_id, "title": event.title}
    )


async def upload(request: Request) -> JSONResponse:
    """Publish that a document was uploaded; the answer says what became of it in the read model."""
    match await request.json():
        case {"title": str(title)}:
            event = DocumentUploaded(event_id=str(uuid4()), stream_id=str(uuid4()), title=title)
        case _:
            return JSONResponse({"error": 'send {"title": "..."}'}, status_code=422)
    (outcome,) = await publisher.publish(event)
    return JSONResponse({"id": event.stream_id, "read_model": outcome.status.value}, status_code=202)


async def list_documents(_: Request) -> JSONResponse:
    """Read the read model."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT id, title FROM documents ORDER BY title"))
        return JSONResponse([{"id": row.id, "title": row.title} for row in rows])


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Make the tables, and let a worker retry and drain as long as the application runs."""
    await guard.migrate()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS documents (id text PRIMARY KEY, title text)"))
    async with guard.worker():
        yield
    await guard.close()
    await engine.dispose()


api = [
    *health_routes(guard, authorize=who),
    *admin_routes(guard, authorize=who, payloads_for="operator"),
]
app = Starlette(
    routes=[
        Route("/documents", upload, methods=["POST"]),
        Route("/documents", list_documents),
        Mount("/api/v1", routes=api),
        *dashboard_routes(guard, authorize=visitor, payloads_for="operator", name="Documents"),
    ],
    lifespan=lifespan,
)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
