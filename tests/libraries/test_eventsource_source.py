"""The event stores of `eventsource-py` as sources: the contract, on each store that the library brings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from projection_guard import AsyncProjectionGuard
from projection_guard.errors import ConfigurationError, SchemaError
from projection_guard.testing import PostgresServer
from projection_guard.testing.source_conformance import SourceConformance
from tests.libraries.eventsource_events import (
    append,
    connected,
    counted,
    engine_at,
    eventsource,
    id_of,
    insert,
    install,
    store_at,
)

from projection_guard.eventsource import EventStoreSource  # isort: skip  # not without the library


class StoreConformance(SourceConformance):
    """A log that the library's own store appends to; the streams' ids are UUIDs."""

    def id_of(self, stream: str) -> str:
        return str(id_of(stream))


class TestInMemory(StoreConformance):
    @pytest.fixture(autouse=True)
    def log(self) -> None:
        self.store = eventsource.InMemoryEventStore()

    def source(self) -> EventStoreSource:
        return EventStoreSource(self.store)

    def append(self, *stream_ids: str) -> list[str]:
        return asyncio.run(append(self.store, *map(counted, stream_ids)))


class InDatabase(StoreConformance):
    engine: AsyncEngine
    url: str

    def source(self) -> EventStoreSource:
        return EventStoreSource(self.engine)

    def append(self, *stream_ids: str) -> list[str]:
        async def do() -> list[str]:
            async with store_at(self.url) as store:
                return await append(store, *map(counted, stream_ids))

        return asyncio.run(do())

    def remove(self, sequence: int) -> None:
        with connected(self.url) as connection:
            connection.execute(text("DELETE FROM events WHERE global_position = :at"), {"at": sequence})


class TestSqlite(InDatabase):
    @pytest.fixture(autouse=True)
    def log(self, tmp_path: Path) -> Iterator[None]:
        self.url = f"sqlite:///{tmp_path / 'events.db'}"
        self.engine = engine_at(self.url)
        self.append("first, for the store makes its table when it is first used")
        self.remove(1)
        with connected(self.url) as connection:
            connection.execute(text("DELETE FROM sqlite_sequence"))
        yield
        self.run(self.engine.dispose())


@pytest.fixture(scope="module")
def store_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all logs of this file, one after the other."""
    with postgres_server.database() as url:
        install(url)
        yield url


class TestPostgres(InDatabase):
    """Appended to by the statement of the library's store, in transactions of the test's own."""

    @pytest.fixture(autouse=True)
    def log(self, store_url: str) -> Iterator[None]:
        self.url = store_url
        self.engine = engine_at(store_url)
        self.writers = create_engine(store_url)
        with self.writers.begin() as connection:
            connection.execute(text("TRUNCATE events RESTART IDENTITY"))
        yield
        self.writers.dispose()
        self.run(self.engine.dispose())

    def append(self, *stream_ids: str) -> list[str]:
        with self.writers.begin() as connection:
            return insert(connection, map(counted, stream_ids))

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        with self.writers.begin() as connection:
            yield insert(connection, map(counted, stream_ids))


_SLOW_DEFAULT = """
CREATE FUNCTION waits() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('test.waits', true) = 'yes' THEN PERFORM pg_advisory_xact_lock_shared(42); END IF;
    RETURN 'done';
END $$;
ALTER TABLE events DROP COLUMN txid;
ALTER TABLE events ADD COLUMN note text DEFAULT waits();
ALTER TABLE events ADD COLUMN txid xid8 DEFAULT pg_current_xact_id();
"""
"""A column of the application's own: its default takes time between a row's position and its transaction's number."""

_WAITING = text(
    "SELECT backend_xid IS NOT NULL FROM pg_stat_activity JOIN pg_locks USING (pid)"
    " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
)
"""Whether who waits for the gate has its transaction's number already.

A sequence gives it one when it writes down the next numbers: at its first, each 33rd, and the next one after a
checkpoint of the server, which each database that another test drops brings about.
"""


@pytest.fixture
def log_of_two(empty_postgres_url: str) -> Iterator[LogOfTwo]:
    """A log on PostgreSQL, and its two readers."""
    log = LogOfTwo(empty_postgres_url)
    yield log
    log.close()


class LogOfTwo:
    """A log on PostgreSQL that is read by the library's own feed, as its manager does, and by our source."""

    def __init__(self, url: str) -> None:
        install(url)
        self.writers = create_engine(url)
        self.runner = asyncio.Runner()
        self.engine = engine_at(url)
        self.store = eventsource.PostgreSQLEventStore(self.engine)
        self.at: Any = None

    def append(self, stream: str) -> None:
        with self.writers.begin() as connection:
            insert(connection, [counted(stream)])

    def theirs(self) -> list[int]:
        """Read on from where the library's feed has come to."""

        async def do() -> list[int]:
            found = [envelope async for envelope in self.store.read_all(self.at)]
            self.at = found[-1].position if found else self.at
            return [envelope.position.key[0] for envelope in found]

        return self.runner.run(do())

    def theirs_at_last(self, number: int) -> list[int]:
        """Read on until so many were given: their feed also waits for other tests' databases on the same server."""
        found, end = self.theirs(), time.monotonic() + 60
        while len(found) < number and time.monotonic() < end:
            found += self.theirs()
        return found

    def waiting(self) -> bool | None:
        """Return whether who waits for the gate has a number, nothing while nobody waits."""
        with self.writers.begin() as connection:  # what this view shows is kept until the transaction's end
            return connection.execute(_WAITING).scalar_one_or_none()

    def ours(self) -> list[int]:
        """Read from the beginning, for our positions are kept by a conformance test."""
        batch = self.runner.run(EventStoreSource(self.engine).read(0, 10))
        return [recorded.sequence for recorded in batch.events]

    def close(self) -> None:
        self.runner.run(self.engine.dispose())
        self.runner.close()
        self.writers.dispose()


def test_an_event_that_has_a_position_and_no_transaction_yet_is_waited_for(log_of_two: LogOfTwo) -> None:
    """The library's own feed passes it and never gives it: this is why its table is read instead."""
    log = log_of_two
    with log.writers.begin() as connection:
        connection.exec_driver_sql(_SLOW_DEFAULT)

    def append_slowly() -> None:
        with log.writers.begin() as connection:
            connection.execute(text("SET LOCAL test.waits = 'yes'"))
            insert(connection, [counted("A")])

    last, before, slow_has_number = 0, [0], True
    with ThreadPoolExecutor(1) as thread:
        while slow_has_number:
            assert last < 50
            last += 1
            with log.writers.begin() as gate:
                gate.execute(text("SELECT pg_advisory_xact_lock(42)"))
                slow = thread.submit(append_slowly)
                while (waiting := log.waiting()) is None:
                    assert not slow.done()
                slow_has_number = waiting
                if not slow_has_number:
                    log.append("B")
                    before = list(range(1, last))
                    assert (log.theirs_at_last(last), log.ours()) == ([*before, last + 1], before)
            slow.result()
    assert (log.theirs(), log.ours()) == ([], [*before, last, last + 1])


def test_a_transaction_that_writes_something_else_stalls_nothing(log_of_two: LogOfTwo) -> None:
    """The library's own feed waits for every transaction of the server's that has written anything."""
    log = log_of_two
    with log.writers.begin() as other:
        other.execute(text("CREATE TABLE other (n int)"))
        log.append("A")
        assert (log.theirs(), log.ours()) == ([], [1])
    assert log.theirs_at_last(1) == [1]


def test_an_event_that_cannot_be_rebuilt_stops_no_other(tmp_path: Path) -> None:
    """A payload that its class refuses, one that is no JSON, a type that nobody registered: each has its error."""
    url = f"sqlite:///{tmp_path / 'events.db'}"

    async def do() -> list[str | None]:
        async with store_at(url) as store:
            await append(store, *map(counted, "ABCDE"))
            with connected(url) as connection:
                for at, change in ((2, "payload = '{}'"), (3, "payload = '{'"), (4, "event_type = 'Unheard'")):
                    connection.execute(text(f"UPDATE events SET {change} WHERE global_position = {at}"))
            source = EventStoreSource(url)
            batch = await source.read(0, 10)
            await source.close()
        assert all(recorded.record is not None for recorded in batch.events)
        return [None if recorded.error is None else type(recorded.error).__name__ for recorded in batch.events]

    assert asyncio.run(do()) == [None, "ValidationError", "JSONDecodeError", "EventTypeNotFoundError", None]


def test_the_guards_tables_are_not_put_into_the_stores_file(tmp_path: Path) -> None:
    """The store makes a table there whose name is one of the guard's, with other columns."""
    url = f"sqlite:///{tmp_path / 'events.db'}"

    async def do() -> None:
        async with store_at(url) as store:
            await append(store, counted("A"))
        async with AsyncProjectionGuard(url, worker="external") as guard:
            await guard.migrate()

    with pytest.raises(SchemaError, match="projection_checkpoints has no column last_event_sequence"):
        asyncio.run(do())


def test_what_cannot_be_read_safely_is_refused(empty_postgres_url: str, tmp_path: Path) -> None:
    """A store of another kind, no table, and the table in partitions, whose positions nothing keeps unique."""
    with pytest.raises(ConfigurationError, match="not SQLiteEventStore: what that one's own feed"):
        EventStoreSource(eventsource.SQLiteEventStore(str(tmp_path / "events.db")))

    async def read() -> None:
        engine = engine_at(empty_postgres_url)
        try:
            await EventStoreSource(engine).read(0, 10)
        finally:
            await engine.dispose()

    with pytest.raises(ConfigurationError, match="no table 'events'"):
        asyncio.run(read())
    install(empty_postgres_url, "events_partitioned")
    with pytest.raises(ConfigurationError, match="'global_position' of the log 'events' is not unique"):
        asyncio.run(read())
