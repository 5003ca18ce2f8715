"""Articles and a search index: an asyncio program whose index server is away when the articles are written.

    pip install 'projection-guard[binary,aiosqlite]'
    python examples/plain_async/app.py

Writers append articles to an event log, all at once. Two projections follow it: a table, and the index, reached over
TCP. While the index is away its events fail and wait, and the table goes on; when it is back it heals by itself, each
article's events in order. `DATABASE_URL=postgresql+psycopg://...` takes another database than articles.db.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource, StreamState

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("words", Text, nullable=False),
    sqlite_autoincrement=True,
)
articles = Table("articles", metadata, Column("id", Text, primary_key=True), Column("words", Text))

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///articles.db"))
source = AsyncSqlEventSource(engine, events)
guard = AsyncProjectionGuard(engine, source=source)


class Log:
    """The event log. What is committed here reaches both projections, whoever dies when."""

    async def publish(self, event: dict[str, Any]) -> None:
        """Append an event."""
        async with engine.begin() as connection:
            await connection.execute(insert(events).values(event))


publisher = guard.publisher(Log())  # appends, and wakes the worker


class Index:
    """Stands in for a search server: it answers on its port once it is started, and knows what it was told."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.told: dict[str, list[int]] = {}

    async def start(self) -> asyncio.Server:
        """Begin to answer."""
        return await asyncio.start_server(self._answer, "127.0.0.1", self.port)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        document = json.loads(await reader.readline())
        self.told.setdefault(document["id"], []).append(document["version"])
        writer.write(b"indexed\n")
        writer.close()
        await writer.wait_closed()


index = Index()


@guard.projection("Articles")
async def write_articles(event: dict[str, Any], connection: AsyncConnection) -> None:
    """Joined: it writes in the guard's transaction, and has its effect exactly once."""
    upsert = "INSERT INTO articles VALUES (:stream_id, :words) ON CONFLICT (id) DO UPDATE SET words = excluded.words"
    await connection.execute(text(upsert), {"stream_id": event["stream_id"], "words": event["words"]})


@guard.projection("SearchIndex", timeout=5)
async def tell_index(event: dict[str, Any]) -> None:
    """Apart: it writes elsewhere, and is called at least once. A lost connection never uses up an event's retries."""
    reader, writer = await asyncio.open_connection("127.0.0.1", index.port)  # refused while it is away
    try:
        told = {"id": event["stream_id"], "version": event["version"], "words": event["words"]}
        writer.write(json.dumps(told).encode() + b"\n")
        if await reader.readline() != b"indexed\n":
            raise ConnectionError("the index has not answered")
    finally:
        writer.close()
        await writer.wait_closed()


async def write(article: str, versions: int) -> None:
    """Write an article, and change it again and again."""
    for version in range(1, versions + 1):
        kind = "Written" if version == 1 else "Changed"
        place = {"event_id": f"{article}-{version}", "event_type": kind, "stream_id": article, "version": version}
        await publisher.publish({**place, "words": f"{article} in version {version}"})


async def blocked(name: str, written: list[str]) -> list[StreamState]:
    """Return the articles of which an event has failed in a projection, once it has come to the log's end."""
    await guard.wait_for(name, await source.head(), timeout=30)
    return [stream for stream in (await guard.streams(name)).items if stream.stream_id in written]


async def main() -> None:
    """Write while the index is away, let it come back, and show what both have."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await guard.migrate()
    run = uuid4().hex[:6]
    written = [f"{run}-{number}" for number in range(4)]
    async with asyncio.timeout(60), guard, guard.worker():
        async with asyncio.TaskGroup() as writers:
            for article in written:
                writers.create_task(write(article, versions=3))
        for name in ("Articles", "SearchIndex"):
            streams = await blocked(name, written)
            waiting = sum(stream.parked_events for stream in streams)
            print(f"The index is away. {name}: {len(streams)} events have failed, {waiting} wait behind them")
        async with await index.start():
            print("The index is back.")
            while await blocked("SearchIndex", written):
                await asyncio.sleep(0.05)
    async with engine.connect() as connection:
        rows = await connection.execute(select(articles).where(articles.c.id.in_(written)).order_by(articles.c.id))
        for article, words in rows:
            print(f"{article}: table has {words!r}, index was told versions {index.told[article]}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
