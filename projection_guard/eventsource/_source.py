"""The library's event store as a source: its table read as any log in a table is, its events rebuilt by its registry.

Its own feed, `read_all`, is not what is read from a database. It ends at the first event that cannot be rebuilt; and on
PostgreSQL it takes for final what was written by transactions older than all that are open, which waits for writers of
other tables and databases, and misses one that has drawn a position and no transaction's number yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from .._io.engines import async_engine_for
from .._model import EventRecord
from .._source import Batch, Recorded, Share, check_range, check_stream_range
from .._sql_source import AsyncSqlEventSource
from ..errors import ConfigurationError
from ._library import LIBRARY, Envelope, Feed, Position, Registry

__all__ = ["EventStoreSource"]


class EventStoreSource:
    """What `eventsource-py` has stored, to be followed and replayed by an `AsyncProjectionGuard`.

    `store` is the database of a `PostgreSQLEventStore` or `SQLiteEventStore`, as an `AsyncEngine` (asyncpg, psycopg,
    aiosqlite) or a URL; or an `InMemoryEventStore` itself. `registry` knows the classes of events, as the store's does.
    `schema` is where the table `events` is, if not where the connection looks first. `give_up_after` is the last resort
    at a hole, as `AsyncSqlEventSource` has it.
    """

    def __init__(
        self,
        store: str | URL | AsyncEngine | Feed,
        *,
        registry: Registry | None = None,
        schema: str | None = None,
        give_up_after: timedelta | None = None,
    ) -> None:
        self._owned: AsyncEngine | None = None
        self._log: AsyncSqlEventSource | _InMemory
        if isinstance(store, (str, URL, AsyncEngine)):
            engine = async_engine_for(store) if isinstance(store, (str, URL)) else store
            self._owned = None if engine is store else engine
            known: Registry = LIBRARY.default_registry if registry is None else registry
            self._log = _table_source(engine, known, schema, give_up_after)
        elif isinstance(store, LIBRARY.InMemoryEventStore):
            self._log = _InMemory(store)
        else:
            raise ConfigurationError(
                "EventStoreSource takes an event store's database, as an AsyncEngine or a URL, or an "
                f"InMemoryEventStore, not {type(store).__name__}: what that one's own feed gives is not safe to follow"
            )

    async def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return the next events; never waits. Raises `ConfigurationError` for a log that cannot be read safely."""
        return await self._log.read(after, limit, until, share=share)

    async def head(self) -> int:
        """Return the highest global position, 0 for an empty store."""
        return await self._log.head()

    async def get(self, event_id: str) -> Recorded | None:
        """Return one event; None where the store has none of this id."""
        return await self._log.get(event_id)

    async def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return up to `limit` events of one aggregate below a position, newest first."""
        return await self._log.read_stream(stream_id, before, limit)

    async def close(self) -> None:
        """Close the connections, if a URL was given."""
        if self._owned is not None:
            await self._owned.dispose()


def _table_source(
    engine: AsyncEngine, registry: Registry, schema: str | None, give_up_after: timedelta | None
) -> AsyncSqlEventSource:
    """Return what reads the store's table, and of it only what is needed: for the type of `txid` there is no name."""
    is_sqlite = engine.dialect.name == "sqlite"
    table = Table(
        "events",
        MetaData(),
        Column("global_position", BigInteger),
        Column("event_id", Text() if is_sqlite else Uuid()),
        Column("event_type", Text()),
        Column("aggregate_id", Text() if is_sqlite else Uuid()),
        Column("payload", Text() if is_sqlite else JSONB()),
        schema=schema,
    )
    return AsyncSqlEventSource(
        engine,
        table,
        sequence="global_position",
        stream_id="aggregate_id",
        decode=_rebuilding(registry),
        give_up_after=give_up_after,
    )


def _rebuilding(registry: Registry) -> Callable[[Mapping[str, object]], object]:
    """Return what makes an event of a row, as the store itself does."""

    def rebuild(row: Mapping[str, object]) -> object:
        payload = row["payload"]
        made: object = registry.get(str(row["event_type"])).model_validate(
            json.loads(payload) if isinstance(payload, str) else payload
        )
        return made

    return rebuild


class _InMemory:
    """A store in this process's memory: positions without holes, and events that were never taken apart."""

    def __init__(self, store: Feed) -> None:
        self._store = store

    async def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        del share  # it may leave out nothing
        check_range(after, limit, until)
        end = after + limit if until is None else min(after + limit, until)
        events = [recorded for recorded in await self._from(after, limit) if recorded.sequence <= end]
        return Batch(events=events, position=events[-1].sequence if events else after)

    async def head(self) -> int:
        position = await self._store.current_position()
        return 0 if position is None else _number(position)

    async def get(self, event_id: str) -> Recorded | None:
        return next((recorded for recorded in await self._from(0) if _of(recorded).event_id == event_id), None)

    async def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        check_stream_range(before, limit)
        events = reversed(await self._from(0))
        wanted = (recorded for recorded in events if _of(recorded).stream_id == stream_id)
        return [recorded for recorded in wanted if before is None or recorded.sequence < before][:limit]

    async def _from(self, after: int, limit: int | None = None) -> list[Recorded]:
        start: object = LIBRARY.Position(self._store.store_id, (after,)) if after else None
        options: object = LIBRARY.FeedReadOptions(limit=limit)
        return [_recorded(envelope) async for envelope in self._store.read_all(start, options)]


def _recorded(envelope: Envelope) -> Recorded:
    event = envelope.event
    sequence = _number(envelope.position)
    record = EventRecord(
        event_id=str(event.event_id),
        event_type=event.event_type,
        sequence=sequence,
        stream_id=str(envelope.stream_id.aggregate_id),
        stream_version=envelope.stream_version,
        occurred_at=event.occurred_at,
    )
    return Recorded(sequence=sequence, event=event, record=record)


def _number(position: Position | None) -> int:
    assert position is not None  # InMemoryEventStore gives each event one
    return int(position.key[0])


def _of(recorded: Recorded) -> EventRecord:
    assert recorded.record is not None
    return recorded.record
