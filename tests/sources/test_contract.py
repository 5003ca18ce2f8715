"""What every source keeps to, seen on the SQL table source, and what a reader does to one that does not."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from projection_guard import ConfigurationError, EventRecord, InvalidArgument
from projection_guard._source import AsyncEventSource, Batch, EventSource, Recorded, Skipped, checked
from projection_guard._sql_source import AsyncSqlEventSource, SqlEventSource
from projection_guard.errors import SourceError

COLUMNS = "event_id varchar(50) NOT NULL UNIQUE, type varchar(50) NOT NULL, stream varchar(50), data varchar(50)"


class LogOnBed:
    """A log on SQLite or PostgreSQL, read blocking or async, its columns named as its application likes it."""

    def __init__(self, url: str, kind: str) -> None:
        self.is_async = kind == "async"
        self.engine = create_engine(url)
        self.runner = asyncio.Runner()
        is_sqlite = self.engine.dialect.name == "sqlite"
        key = "INTEGER PRIMARY KEY AUTOINCREMENT" if is_sqlite else "bigserial PRIMARY KEY"
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE log (id {key}, {COLUMNS})"))
        if self.is_async:
            url = url.replace("sqlite://", "sqlite+aiosqlite://")
        self._url = url
        self.sources: list[Any] = []

    def source(self, **options: Any) -> Any:
        """Make a reader."""
        options = {"sequence": "id", "event_type": "type", "stream_id": "stream"} | options
        made: Any
        if self.is_async:
            made = AsyncSqlEventSource(create_async_engine(self._url), "log", **options)
        else:
            made = SqlEventSource(self.engine, "log", **options)
        self.sources.append(made)
        return made

    def append(self, *events: str) -> None:
        """Append events, named by stream and number: "A#1"."""
        with self.engine.begin() as connection:
            for event in events:
                connection.execute(
                    text("INSERT INTO log (event_id, type, stream, data) VALUES (:id, 'Happened', :stream, :id)"),
                    {"id": event, "stream": event.partition("#")[0]},
                )

    def run(self, result: Any) -> Any:
        """Await what is to be awaited."""
        if not inspect.isawaitable(result):
            return result

        async def await_it() -> Any:
            return await result

        return self.runner.run(await_it())

    def ids(self, source: Any, after: int, limit: int, until: int | None = None) -> tuple[list[str], int]:
        """Read a batch; return its events' ids and its position."""
        batch = self.run(source.read(after, limit, until))
        assert checked(batch, after, limit, until) is batch

        return [str(recorded.record and recorded.record.event_id) for recorded in batch.events], batch.position

    def close(self) -> None:
        """End everything."""
        for source in self.sources:
            if self.is_async:
                self.run(source._engine.dispose())
        self.runner.close()
        self.engine.dispose()


@pytest.fixture(params=["blocking", "async"])
def log(request: pytest.FixtureRequest, database_url: str) -> Iterator[LogOnBed]:
    """The four ways of reading a log."""
    made = LogOnBed(database_url, request.param)
    yield made
    made.close()


@pytest.fixture
def blocking_log(database_url: str) -> Iterator[LogOnBed]:
    """The blocking ones, for what threads do."""
    made = LogOnBed(database_url, "blocking")
    yield made
    made.close()


def test_pages_are_the_log_in_its_order(log: LogOnBed) -> None:
    """Whatever the page's size, each event comes once; what is appended later comes afterwards."""
    names = [f"{'ABC'[n % 3]}#{n}" for n in range(23)]
    log.append(*names)
    for limit in (1, 7, 23, 100):
        source, read, position = log.source(), list[str](), 0
        while position < log.run(source.head()):
            ids, position = log.ids(source, position, limit)
            read += ids
        assert read == names
        assert log.ids(source, position, limit) == ([], position)
    log.append("D#1")
    assert log.ids(log.sources[-1], 23, 10) == (["D#1"], 24)


def test_an_empty_log_is_no_error(log: LogOnBed) -> None:
    """Its head is 0."""
    source = log.source()
    assert (log.ids(source, 0, 10), log.run(source.head()), log.run(source.get("A#1"))) == (([], 0), 0, None)


def test_a_source_is_one_by_its_methods(log: LogOnBed) -> None:
    """No base class is asked for."""
    assert isinstance(log.source(), AsyncEventSource if log.is_async else EventSource)


def test_until_ends_a_range(log: LogOnBed) -> None:
    """Both ends: after it is excluded, until included."""
    log.append("A#1", "A#2", "A#3", "A#4")
    source = log.source()
    assert log.ids(source, 1, 10, until=3) == (["A#2", "A#3"], 3)
    assert log.ids(source, 3, 10, until=3) == ([], 3)


def test_a_record_says_what_its_columns_say(log: LogOnBed) -> None:
    """The event is the row as a dict, or what `decode` makes of it."""
    log.append("A#1")
    record = EventRecord(event_id="A#1", event_type="Happened", sequence=1, stream_id="A")
    (plain,) = log.run(log.source().read(0, 1)).events
    assert plain == Recorded(
        sequence=1,
        event={"id": 1, "event_id": "A#1", "type": "Happened", "stream": "A", "data": "A#1"},
        record=record,
    )
    source = log.source(decode=lambda row: ("decoded", row["data"]))
    decoded = Recorded(sequence=1, event=("decoded", "A#1"), record=record)
    assert log.run(source.get("A#1")) == decoded
    assert list(log.run(source.read(0, 1)).events) == [decoded]


def test_an_event_that_cannot_be_rebuilt_stops_no_other(log: LogOnBed) -> None:
    """It comes with its record and the error in its event's place."""
    log.append("A#1", "A#2")

    def decode(row: Any) -> object:
        if row["event_id"] == "A#1":
            raise ValueError("unknown")
        return row["event_id"]

    broken, well = log.run(log.source(decode=decode).read(0, 10)).events
    assert (broken.event, broken.record.event_id, type(broken.error)) == (None, "A#1", ValueError)
    assert (well.event, well.error) == ("A#2", None)


def test_without_streams(log: LogOnBed) -> None:
    """`stream_id=None`: the log has no such column."""
    log.append("A#1")
    (recorded,) = log.run(log.source(stream_id=None).read(0, 1)).events
    assert recorded.record.stream_id is None


@pytest.mark.parametrize(
    ("kind", "event_id", "unknown"),
    [
        ("uuid", "6f0c8a4e-7f0b-4a53-9c0e-0d1f3a0b5c11", "6f0c8a4e-7f0b-4a53-9c0e-0d1f3a0b5c12"),
        ("bigint", "7", "8"),
        ("varchar(3)", "abc", "abcd"),
    ],
)
def test_an_event_is_found_by_its_id_whatever_its_columns_type(
    log: LogOnBed, kind: str, event_id: str, unknown: str
) -> None:
    """Ids are text to the guard; what cannot be in the column is no event's id."""
    if kind == "uuid" and log.engine.dialect.name == "sqlite":
        kind = "char(36)"
    with log.engine.begin() as connection:
        connection.execute(text("DROP TABLE log"))
        columns = f"id bigint PRIMARY KEY, event_id {kind}, type varchar(9), stream varchar(9)"
        connection.execute(text(f"CREATE TABLE log ({columns})"))
        connection.execute(text(f"INSERT INTO log VALUES (1, '{event_id}', 'Happened', 'A')"))
    source = log.source()
    assert log.run(source.get(event_id)).record.event_id == event_id
    for other in (unknown, "no such event", "7 or so", "9" * 40, "a\0b"):
        assert log.run(source.get(other)) is None
    assert log.ids(source, 0, 10) == ([event_id], 1)


def test_two_first_readings_at_once_find_the_same_log(blocking_log: LogOnBed) -> None:
    """Both may find the table; neither reads its rows by the columns that the other one found."""
    log, both = blocking_log, threading.Barrier(2)
    log.append("A#1", "A#2")

    def wait_for_the_other(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "ORDER BY log.id" in statement:
            both.wait(60)

    event.listen(log.engine, "before_cursor_execute", wait_for_the_other)
    source = log.source()
    with ThreadPoolExecutor(2) as pool:
        read = list(pool.map(lambda limit: log.ids(source, 0, limit), (10, 10)))
    assert read == [(["A#1", "A#2"], 2)] * 2


def test_a_deleted_event_is_a_hole_that_is_recorded(log: LogOnBed) -> None:
    """Also at the log's beginning, which was archived."""
    log.append("A#1", "A#2", "A#3", "A#4")
    with log.engine.begin() as connection:
        connection.execute(text("DELETE FROM log WHERE id IN (1, 3)"))
    batch = log.run(log.source().read(0, 10))
    assert [recorded.sequence for recorded in batch.events] == [2, 4]
    assert [(hole.first, hole.last) for hole in batch.skipped] == [(1, 1), (3, 3)]


@pytest.mark.parametrize(
    "asked",
    [(-1, 10, None), (0, 0, None), (0, 100_001, None), (5, 10, 4)],
    ids=["negative", "none", "many", "from > to"],
)
def test_a_range_that_cannot_be_is_refused(log: LogOnBed, asked: tuple[int, int, int | None]) -> None:
    """With the bounds."""
    with pytest.raises(InvalidArgument, match=r"after=|limit="):
        log.run(log.source().read(*asked))


def test_a_database_that_cannot_be_reached_is_the_sources_error(log: LogOnBed) -> None:
    """It names the log, and no URL."""
    source = log.source()
    log.append("A#1")
    log.ids(source, 0, 1)
    with log.engine.begin() as connection:
        connection.execute(text("ALTER TABLE log RENAME TO elsewhere"))
    with pytest.raises(SourceError, match="'log' could not be read"):
        log.run(source.read(0, 1))


def at(*sequences: int, position: int | None = None) -> Batch:
    """Make a batch."""
    events = [Recorded(sequence=sequence, event=None) for sequence in sequences]
    return Batch(events=events, position=(sequences[-1] if sequences else 0) if position is None else position)


NAMED = EventRecord(event_id="e", event_type="Happened", sequence=11)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (at(11, 12, 12), "12 twice"),
        (at(11, 13, 12), "12 after 13"),
        (at(10, 11), "after 10 and returned sequence 10"),
        (at(11, 12, position=11), "come to 11, and returned sequence 12"),
        (at(11, 12, 13, 14), "4 events where at most 3"),
        (at(11, 31), "up to 30 and returned sequence 31"),
        (at(11, position=31), "come to 31, and was asked up to 30"),
        (at(position=9), "come to 9"),
        (
            Batch(events=[Recorded(sequence=11, event=None, error=ValueError())], position=11),
            "could not rebuild sequence 11",
        ),
        (replace(at(11, 12), last=NAMED), "returned sequence 12, and names that of 11"),
        (replace(at(position=10), last=NAMED), "come to 10, and names an event of sequence 11"),
        (replace(at(11), last=replace(NAMED, sequence=None)), "come to 11, and names an event of sequence None"),
    ],
)
def test_a_source_that_breaks_its_contract_is_found_out(batch: Batch, says: str) -> None:
    """Before anything of it is applied."""
    with pytest.raises(SourceError, match=says):
        checked(batch, 10, 3, until=30)


def test_a_batch_that_keeps_the_contract_passes() -> None:
    """Holes, a position behind the last event, nothing at all."""
    for batch in (
        replace(at(11, position=12), last=NAMED),
        at(11, 15),
        at(11, position=20),
        at(position=10),
        at(11, 12, 13),
    ):
        assert checked(batch, 10, 3) is batch
    assert Skipped(first=1, last=2, reason="x").last == 2


def test_another_database_is_refused() -> None:
    """Nobody knows there who is still writing."""
    with pytest.raises(ConfigurationError, match="MariaDB or MySQL cannot be read safely"):
        SqlEventSource("mysql+pymysql://root@127.0.0.1/test", "log")


def test_a_url_that_is_none_is_refused_without_quoting_it() -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as refused:
        SqlEventSource("postgresql:/user:secret@nowhere", "log")
    assert "secret" not in str(refused.value)
