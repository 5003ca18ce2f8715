"""Events of `eventsource-py`, and its stores on the suite's databases. Skips where the library is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import AsyncProjectionGuard, RetryPolicy

eventsource: Any = pytest.importorskip("eventsource", reason="eventsource-py is not installed: it needs Python 3.13")

_versions = count(1_000_000)

__all__ = [
    "PATIENT",
    "Counted",
    "append",
    "by_stream",
    "counted",
    "engine_at",
    "eventsource",
    "heal",
    "id_of",
    "insert",
    "install",
    "store_at",
]


@eventsource.register_event
class Counted(eventsource.DomainEvent):  # type: ignore[misc]  # mypy does not look into the library, which is newer
    """The n-th thing of its stream was counted."""

    event_type: str = "Counted"
    aggregate_type: str = "Counter"
    n: int = 0


PATIENT = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(1_000_000))
"""A failure is due at once, and stays so until the handler is mended, however many rounds a worker does."""


async def heal(guard: AsyncProjectionGuard) -> None:
    """Let a worker do its rounds until nothing waits any more."""
    for _ in range(100):
        await guard.worker().run_once()
        health = await guard.health()
        if not any(each.active_failures or each.parked_events for each in health):
            return
    pytest.fail("after 100 rounds of a worker events still wait")


def id_of(name: str) -> UUID:
    """Return the aggregate's id that stands for a stream of this name."""
    return uuid5(NAMESPACE_OID, name)


def counted(stream: str, n: int = 0) -> Any:
    """Make an event of a stream."""
    return Counted(aggregate_id=id_of(stream), n=n)


async def append(store: Any, *events: Any) -> list[str]:
    """Append events, one by one, by the library's own means; return their ids."""
    for event in events:
        stream = eventsource.StreamId(event.aggregate_id, event.aggregate_type)
        await store.append(stream, [event], eventsource.ExpectedVersion.any_())
    return [str(event.event_id) for event in events]


def by_stream(found: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    """Put what was applied under its stream."""
    said: dict[str, list[int]] = {}
    for stream, n in found:
        said.setdefault(stream, []).append(n)
    return said


def engine_at(url: str, driver: str = "postgresql+asyncpg") -> AsyncEngine:
    """Make an engine of theirs for a database of the suite's."""
    asked = make_url(url)
    if asked.get_backend_name() == "sqlite":
        return create_async_engine(asked.set(drivername="sqlite+aiosqlite"))
    return create_async_engine(asked.set(drivername=driver))


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[Any]:
    """Open the library's store on a database: a file of SQLite's, or PostgreSQL with the table installed."""
    if url.startswith("sqlite"):
        async with eventsource.SQLiteEventStore(str(make_url(url).database)) as store:
            yield store
        return
    engine = engine_at(url)
    yield eventsource.PostgreSQLEventStore(engine)
    await engine.dispose()


def install(url: str, schema: Literal["events", "events_partitioned"] = "events") -> None:
    """Make the table of PostgreSQL by the library's own script."""
    from eventsource.adapters.sql.schemas import get_schema

    with connected(url) as connection:
        connection.connection.cursor().execute(get_schema(schema))  # not by SQLAlchemy: there are % in it


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Open a transaction, past both libraries."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def insert(connection: Connection, events: Iterable[Any]) -> list[str]:
    """Append by the statement of `PostgreSQLEventStore.append`, in a transaction that the caller ends."""
    from eventsource.adapters.postgresql import store_append

    made = list(events)
    for event in made:
        connection.execute(
            store_append._INSERT_EVENT_SQL,
            {
                "event_id": event.event_id,
                "event_type": event.event_type,
                "aggregate_type": event.aggregate_type,
                "aggregate_id": event.aggregate_id,
                "tenant_id": None,
                "actor_id": None,
                "version": next(_versions),
                "timestamp": event.occurred_at,
                "payload": vars(store_append)["json_dumps"](event.model_dump(mode="json")),
            },
        )
    return [str(event.event_id) for event in made]
