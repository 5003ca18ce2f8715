"""A document service in FastAPI whose read model heals by itself, with health and admin routes behind API keys.

    pip install 'projection-guard[fastapi,aiosqlite]' uvicorn
    OPERATOR_KEY=change-me VIEWER_KEY=look-only python examples/fastapi_app/app.py

    curl -X PUT localhost:8000/folders/board
    curl localhost:8000/documents --json '{"folder": "board", "title": "Minutes"}'      # applied
    curl localhost:8000/documents --json '{"folder": "plans", "title": "Budget"}'       # failed: no such folder yet
    curl -X PUT localhost:8000/folders/plans                                            # a second later it has healed
    curl localhost:8000/documents
    curl -H 'Authorization: Bearer change-me' localhost:8000/api/v1/admin/projections/status

A folder that never comes is a failure for a person: http://localhost:8000/dashboard/ (any name, the key as password).
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

import uvicorn
from fastapi import Body, FastAPI, HTTPException, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from projection_guard import AsyncProjectionGuard
from projection_guard.fastapi import Actor, admin_router, dashboard_router, health_router

DATABASE = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///documents.db")
TABLES = (
    "CREATE TABLE IF NOT EXISTS folders (name text PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS documents (id text PRIMARY KEY, folder text, title text, revision integer)",
)
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
class Uploaded:
    """A document came in. This service has no event store of its own: its events are pushed."""

    event_id: str
    stream_id: str
    folder: str
    title: str


@dataclass(frozen=True)
class Renamed:
    """It has another title now."""

    event_id: str
    stream_id: str
    title: str


engine = create_async_engine(DATABASE)
guard = AsyncProjectionGuard(engine)
publisher = guard.publisher()


@guard.projection("DocumentProjection", handles=[Uploaded, Renamed])
async def documents(event: Uploaded | Renamed, connection: AsyncConnection) -> None:
    """Write the read model, in the guard's transaction: exactly once, and each document's events in order."""
    if isinstance(event, Renamed):
        change = text("UPDATE documents SET title = :title, revision = revision + 1 WHERE id = :stream_id")
    else:
        found = await connection.execute(text("SELECT 1 FROM folders WHERE name = :folder"), {"folder": event.folder})
        if found.first() is None:
            raise LookupError(f"there is no folder {event.folder!r} yet")
        change = text("INSERT INTO documents VALUES (:stream_id, :folder, :title, 1)")
    await connection.execute(change, vars(event))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Make the tables, and let a worker retry and drain as long as the application runs."""
    await guard.migrate()
    async with engine.begin() as connection:
        for table in TABLES:
            await connection.execute(text(table))
    async with guard.worker():
        yield
    await guard.close()
    await engine.dispose()


app = FastAPI(title="Documents", lifespan=lifespan)
app.include_router(health_router(guard, authorize=who), prefix="/api/v1")
app.include_router(admin_router(guard, authorize=who, payloads_for="operator"), prefix="/api/v1")
app.include_router(dashboard_router(guard, authorize=visitor, payloads_for="operator", name="Documents"))


async def publish(event: Uploaded | Renamed) -> dict[str, str]:
    """Publish what happened, and say what became of it in the read model."""
    (outcome,) = await publisher.publish(event)
    return {"id": event.stream_id, "read_model": outcome.status.value}


@app.put("/folders/{name}", status_code=201)
async def make_folder(name: str) -> None:
    """Make a folder. The read model is not told: it looks for folders when it files a document."""
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO folders VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name})


@app.post("/documents", status_code=202)
async def upload(folder: Annotated[str, Body()], title: Annotated[str, Body()]) -> dict[str, str]:
    """Take a document in."""
    return await publish(Uploaded(str(uuid4()), str(uuid4()), folder, title))


@app.put("/documents/{document}", status_code=202)
async def rename(document: str, title: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    """Give it another title."""
    return await publish(Renamed(str(uuid4()), document, title))


@app.get("/documents")
async def list_documents() -> list[dict[str, object]]:
    """Read the read model."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT id, folder, title, revision FROM documents ORDER BY title"))
        return [dict(row) for row in rows.mappings()]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
