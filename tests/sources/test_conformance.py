"""The shipped conformance suite: good sources pass it, and each wrong one is found out by the tests that are named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard._source import AsyncEventSource, EventSource
from projection_guard._sql_source import AsyncSqlEventSource, SqlEventSource
from projection_guard.errors import SourceError
from projection_guard.testing import PostgresServer
from projection_guard.testing.source_conformance import SourceConformance
from tests.sources.list_log import AsyncListSource, FindingListSource, ListLog, ListSource, SharingListSource
from tests.sources.wrong_sources import PATIENCE_SECONDS, WRONG, Wrong

COLUMNS = "event_id varchar(50) NOT NULL UNIQUE, event_type varchar(50) NOT NULL, stream_id varchar(50) NOT NULL"


def insert(connection: Connection, stream_ids: Sequence[str]) -> list[str]:
    """Insert an event for each stream; its id holds its sequence."""
    statement = text("INSERT INTO log (event_id, event_type, stream_id) VALUES (:event_id, 'Happened', :stream_id)")
    ids = [f"{stream_id}-{time.monotonic_ns()}-{index}" for index, stream_id in enumerate(stream_ids)]
    for event_id, stream_id in zip(ids, stream_ids, strict=True):
        connection.execute(statement, {"event_id": event_id, "stream_id": stream_id})
    return ids


class SqlConformance(SourceConformance):
    """A log in a table, with events that can be removed."""

    engine: Engine
    async_engine: AsyncEngine
    key: str

    def begin(self, url: str) -> None:
        """Make the log."""
        self.engine = create_engine(url)
        self.async_engine = create_async_engine(url.replace("sqlite://", "sqlite+aiosqlite://"))
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE log (sequence {self.key}, {COLUMNS})"))
            connection.execute(text("CREATE INDEX log_streams ON log (stream_id, sequence)"))

    def end(self) -> None:
        """Close everything."""
        self.run(self.async_engine.dispose())
        self.engine.dispose()

    def append(self, *stream_ids: str) -> list[str]:
        with self.engine.begin() as connection:
            return insert(connection, stream_ids)

    def remove(self, sequence: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM log WHERE sequence = :sequence"), {"sequence": sequence})


class SqliteConformance(SqlConformance):
    key = "INTEGER PRIMARY KEY AUTOINCREMENT"

    @pytest.fixture(autouse=True)
    def log(self, sqlite_url: str) -> Iterator[None]:
        self.begin(sqlite_url)
        yield
        self.end()


@pytest.fixture(scope="module")
def one_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all logs of this file, one after the other; making one takes longer than a test."""
    with postgres_server.database() as url:
        yield url


class PostgresConformance(SqlConformance):
    """Also with transactions side by side."""

    key = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

    @pytest.fixture(autouse=True)
    def log(self, one_postgres_url: str) -> Iterator[None]:
        self.begin(one_postgres_url)
        yield
        with self.engine.begin() as connection:
            connection.execute(text("DROP TABLE log"))
        self.end()

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        with self.engine.begin() as connection:
            yield insert(connection, stream_ids)


class TestSqlEventSourceOnSqlite(SqliteConformance):
    def source(self) -> EventSource:
        return SqlEventSource(self.engine, "log")


class TestAsyncSqlEventSourceOnSqlite(SqliteConformance):
    def source(self) -> AsyncEventSource:
        return AsyncSqlEventSource(self.async_engine, "log")


class TestSqlEventSourceOnPostgres(PostgresConformance):
    def source(self) -> EventSource:
        return SqlEventSource(self.engine, "log")


class TestAsyncSqlEventSourceOnPostgres(PostgresConformance):
    def source(self) -> AsyncEventSource:
        return AsyncSqlEventSource(self.async_engine, "log")


class ListConformance(SourceConformance):
    """A log in memory; `log` may be a wrong one."""

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.log = ListLog()

    def append(self, *stream_ids: str) -> list[str]:
        return self.log.append(*stream_ids)

    def append_in_open_transaction(self, *stream_ids: str) -> AbstractContextManager[list[str]]:
        return self.log.transaction(*stream_ids)

    def remove(self, sequence: int) -> None:
        del self.log.events[sequence]


class TestListSource(ListConformance):
    def source(self) -> EventSource:
        return ListSource(self.log)


class TestSharingListSource(ListConformance):
    def source(self) -> EventSource:
        return SharingListSource(self.log)


class TestFindingListSource(ListConformance):
    def source(self) -> EventSource:
        return FindingListSource(self.log)


class TestAsyncListSource(ListConformance):
    def source(self) -> AsyncEventSource:
        return AsyncListSource(self.log)


class WrongConformance(ListConformance):
    patience_seconds = PATIENCE_SECONDS

    def __init__(self, wrong: Wrong) -> None:
        self.log = wrong.log()
        self.wrong = wrong

    def source(self) -> EventSource:
        return self.wrong.source(self.log)


def named(wrong: Wrong) -> str:
    """Name what is wrong."""
    return (wrong.log if wrong.source is ListSource else wrong.source).__name__


CASES = [pytest.param(wrong, name, id=f"{named(wrong)}: {name}") for wrong in WRONG for name in wrong.fails]
TESTS = {name for name in dir(SourceConformance) if name.startswith("test_")}


@pytest.mark.parametrize(("wrong", "name"), CASES)
def test_a_wrong_source_is_found_out(wrong: Wrong, name: str) -> None:
    """By the test whose rule it breaks, which says what it did."""
    suite = WrongConformance(wrong)
    test: Callable[[], None] = getattr(suite, f"test_{name}")
    try:
        with pytest.raises((AssertionError, SourceError, LookupError), match=r"\w{3,}"):
            test()
    finally:
        suite.teardown_method()


def test_every_rule_has_a_source_that_breaks_it() -> None:
    """A test that no source can fail would prove nothing."""
    assert {f"test_{name}" for wrong in WRONG for name in wrong.fails} == TESTS


class Bare(SourceConformance):
    """What an author has to write, and no more."""

    def __init__(self) -> None:
        self.log = ListLog()

    def source(self) -> AsyncEventSource:
        return AsyncListSource(self.log)

    def append(self, *stream_ids: str) -> list[str]:
        return self.log.append(*stream_ids)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_holes_are_passed_over", r"remove\(sequence\) is not implemented"),
        ("test_a_removed_sequence_is_not_used_again", r"remove\(sequence\) is not implemented"),
        ("test_a_hole_is_waited_for_until_it_is_filled", "append_in_open_transaction.* is not implemented"),
        ("test_a_hole_is_waited_for_until_it_cannot_be_filled", "append_in_open_transaction.* is not implemented"),
        ("test_two_open_transactions_that_end_in_turned_order", "append_in_open_transaction.* is not implemented"),
        ("test_an_open_transaction_at_the_end_is_not_passed", "append_in_open_transaction.* is not implemented"),
        ("test_a_reader_beside_transactions_loses_nothing", "append_in_open_transaction.* is not implemented"),
        ("test_a_share_has_all_of_its_events", "takes no share"),
        ("test_what_is_left_out_at_the_end_is_named", "takes no share"),
        ("test_a_share_without_events_stops_nobody", "takes no share"),
        ("test_a_hole_holds_those_of_other_shares", "takes no share"),
        ("test_a_stream_has_all_of_its_events", "has no read_stream"),
        ("test_a_part_of_a_stream_is_its_newest_below_a_sequence", "has no read_stream"),
        ("test_a_stream_that_is_not_there_is_empty", "has no read_stream"),
        ("test_bad_arguments_of_a_stream_are_refused", "has no read_stream"),
        ("test_get_finds_an_event_by_its_id", r"has no get\(event_id\)"),
    ],
)
def test_what_cannot_be_tested_is_skipped_by_name(name: str, says: str) -> None:
    """The sentence says which method is missing."""
    suite = Bare()
    try:
        with pytest.raises(pytest.skip.Exception, match=says):
            getattr(suite, name)()
    finally:
        suite.teardown_method()
