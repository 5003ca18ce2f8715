"""`SqlEventSource` finds a stream where an index leads to it, whatever the column's type."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from projection_guard import SqlEventSource

ID = UUID("b3e0a3a5-6a0a-4a3e-9a53-7f0f1a2b3c4d")
TABLE = (
    "CREATE TABLE log (sequence integer PRIMARY KEY, event_id varchar(20) NOT NULL, event_type varchar(20) NOT NULL, "
    "stream_id {kind} NOT NULL, version integer NOT NULL{more})"
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database of the test's own."""
    made = create_engine(database_url)
    yield made
    made.dispose()


def make(engine: Engine, *statements: str, kind: str = "varchar(50)", more: str = "") -> SqlEventSource:
    """Make a log's table, and return its source."""
    with engine.begin() as connection:
        for statement in (TABLE.format(kind=kind, more=more), *statements):
            connection.execute(text(statement))
    return SqlEventSource(engine, "log")


def append(engine: Engine, *streams: str) -> None:
    """Append an event to each of these streams."""
    with engine.begin() as connection:
        for number, stream in enumerate(streams, start=1):
            connection.execute(text(f"INSERT INTO log VALUES ({number}, 'e{number}', 'Happened', {stream}, {number})"))


@pytest.mark.parametrize(
    ("statements", "more", "is_found"),
    [
        ([], "", False),
        (["CREATE INDEX i ON log (stream_id)"], "", True),
        (["CREATE INDEX i ON log (stream_id, version)"], "", True),
        ([], ", UNIQUE (stream_id, version)", True),
        (["CREATE INDEX i ON log (version, stream_id)"], "", False),
        (["CREATE INDEX i ON log (stream_id) WHERE version > 1"], "", False),
        (["CREATE INDEX i ON log (lower(stream_id))"], "", False),
    ],
)
def test_a_log_is_not_searched_from_end_to_end(
    engine: Engine, statements: list[str], more: str, is_found: bool
) -> None:
    """Without an index that leads to all of a stream's events the answer is None."""
    if "lower" in str(statements) and engine.dialect.name == "sqlite":
        pytest.skip("SQLAlchemy warns of such an index on SQLite, and leaves it out")
    source = make(engine, *statements, more=more)
    append(engine, "'A'", "'B'", "'A'")
    found = source.read_stream("A", None, 10)
    assert (found is not None) == is_found
    if found is not None:
        assert [recorded.sequence for recorded in found] == [3, 1]


@pytest.mark.parametrize(
    ("kind", "value", "written", "others"),
    [
        ("integer", "7", "7", ["007", "8", "seven", "9" * 30, ""]),
        ("uuid", f"'{ID}'", str(ID), [str(ID).upper(), ID.hex, "7", ""]),
    ],
)
def test_a_stream_is_found_as_the_record_writes_it(
    engine: Engine, kind: str, value: str, written: str, others: list[str]
) -> None:
    """Other letters for the same number name another stream: one that is not there."""
    if kind == "uuid" and engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no UUIDs")
    source = make(engine, "CREATE INDEX i ON log (stream_id)", kind=kind)
    append(engine, value)
    (found,) = list(source.read_stream(written, None, 10) or ())
    assert found.record is not None
    assert found.record.stream_id == written
    for other in others:
        assert source.read_stream(other, None, 10) in ([], ())


def test_a_log_without_streams_has_no_events_of_any(engine: Engine) -> None:
    """That is known without looking."""
    make(engine)
    append(engine, "'A'")
    assert not SqlEventSource(engine, "log", stream_id=None).read_stream("A", None, 10)
    assert SqlEventSource(engine, "log", stream_id=None).read_stream("A", None, 10) is not None
