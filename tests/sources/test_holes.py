"""Numbers are drawn before they can be seen: a reader waits at a hole until nobody is left who could fill it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from projection_guard import ConfigurationError
from projection_guard._source import Batch
from projection_guard._sql_source import SqlEventSource

pytestmark = pytest.mark.filterwarnings("error")
CREATE = (
    "CREATE TABLE events (sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL UNIQUE, "
    "event_type text NOT NULL, stream_id text NOT NULL)"
)


class Log:
    """A log in PostgreSQL, with transactions that are left open."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(url)
        self._open: list[Connection] = []
        self.change(CREATE)

    def change(self, sql: str) -> None:
        """Do something and commit it."""
        with self.engine.begin() as connection:
            connection.execute(text(sql))

    def append(self, connection: Connection | None = None) -> int:
        """Append an event and commit it, or leave it to the transaction that is given; return its sequence."""
        if connection is None:
            with self.engine.begin() as its_own:
                return self.append(its_own)
        insert = (
            "INSERT INTO events (event_id, event_type, stream_id) VALUES (gen_random_uuid()::text, 'Happened', 'A') "
            "RETURNING sequence"
        )
        return int(connection.execute(text(insert)).scalar_one())

    def transaction(self) -> Connection:
        """Begin a transaction and leave it open."""
        connection = self.engine.connect()
        connection.begin()
        self._open.append(connection)
        return connection

    def close(self) -> None:
        """End everything."""
        for connection in self._open:
            connection.close()
        self.engine.dispose()


@pytest.fixture
def log(postgres_url: str) -> Iterator[Log]:
    """A log in a database of the test's own."""
    made = Log(postgres_url)
    yield made
    made.close()


@pytest.fixture
def source(log: Log) -> SqlEventSource:
    """A reader of it, on the same engine."""
    return SqlEventSource(log.engine, "events")


def seen(batch: Batch) -> tuple[list[int], int, bool]:
    """Return a batch's sequences, how far it has come, and whether it is held."""
    return [recorded.sequence for recorded in batch.events], batch.position, batch.is_held


def test_a_reader_that_has_been_further_returns_nothing_beyond_what_is_asked_for(
    log: Log, source: SqlEventSource
) -> None:
    """It knows already that the holes up to there are final; a range of a replay ends where it ends."""
    for _ in range(2):
        log.append()
        with log.engine.connect() as connection, connection.begin() as unused:
            log.append(connection)
            unused.rollback()
    log.append()
    assert seen(source.read(0, 10)) == ([1, 3, 5], 5, False)
    batch = source.read(0, 10, until=3)
    assert seen(batch) == ([1, 3], 3, False)
    assert [(hole.first, hole.last) for hole in batch.skipped] == [(2, 2)]


@pytest.mark.parametrize("ends", ["commits", "rolls back"])
@pytest.mark.parametrize("restarts", [False, True], ids=["same reader", "another reader"])
def test_a_hole_is_waited_for_as_long_as_it_may_be_filled(
    log: Log, source: SqlEventSource, ends: str, restarts: bool
) -> None:
    """tx1 takes n and stays open, tx2 commits n+1: n is read first, or recorded as skipped; n+1 never before."""
    log.append()
    first = log.transaction()
    assert (log.append(first), log.append()) == (2, 3)
    assert seen(source.read(0, 10)) == ([1], 1, True)
    assert seen(source.read(1, 10)) == ([], 1, True)
    if restarts:
        source = SqlEventSource(log.engine, "events")
        assert seen(source.read(1, 10)) == ([], 1, True)
    first.commit() if ends == "commits" else first.rollback()
    batch = source.read(1, 10)
    assert seen(batch) == ([2, 3] if ends == "commits" else [3], 3, False)
    skipped = [(hole.first, hole.last) for hole in batch.skipped]
    assert skipped == ([] if ends == "commits" else [(2, 2)])
    assert all("nobody" in hole.reason for hole in batch.skipped)


def test_a_transaction_that_writes_something_else_stalls_nothing(log: Log, source: SqlEventSource) -> None:
    """Only those who write into the log are waited for; readers of it and writers elsewhere are not."""
    log.change("CREATE TABLE other (n int)")
    writer, reader = log.transaction(), log.transaction()
    writer.execute(text("INSERT INTO other VALUES (1)"))
    reader.execute(text("SELECT * FROM events FOR UPDATE"))
    rolled_back = log.transaction()
    log.append(rolled_back)
    rolled_back.rollback()
    log.append()
    assert seen(source.read(0, 10)) == ([2], 2, False)


def test_those_who_came_later_are_not_waited_for(log: Log, source: SqlEventSource) -> None:
    """Under writers who never pause a hole is final once those from before it was seen are gone."""
    first = log.transaction()
    log.append(first)
    log.append()
    assert seen(source.read(0, 10)) == ([], 0, True)
    later = log.transaction()
    log.append(later)
    first.rollback()
    assert seen(source.read(0, 10)) == ([2], 2, False)
    log.append()
    assert seen(source.read(2, 10)) == ([], 2, True)
    later.commit()
    assert seen(source.read(2, 10)) == ([3, 4], 4, False)


def test_a_reader_far_ahead_holds_up_none_behind_it(log: Log, source: SqlEventSource) -> None:
    """One source, two positions: what the one waits for, ever anew, is no matter of the other's."""
    rolled_back = log.transaction()
    log.append(rolled_back)
    rolled_back.rollback()
    log.append()
    writer = log.transaction()
    log.append(writer)
    log.append()
    assert seen(source.read(0, 10)) == ([], 0, True)
    for ahead in (2, 4, 6):
        later = log.transaction()
        log.append(later)
        log.append()
        writer.commit()
        assert seen(source.read(ahead, 10)) == ([ahead + 1, ahead + 2], ahead + 2, True)
        assert seen(source.read(ahead + 2, 10)) == ([], ahead + 2, True)
        writer = later
    assert seen(source.read(0, 2)) == ([2, 3], 3, False)


def test_who_began_after_the_look_at_the_writers_is_waited_for(log: Log, source: SqlEventSource) -> None:
    """Another thread's reading, meanwhile, saw events behind his hole, and waits for him: this one must not pass it."""
    rolled_back = log.transaction()
    log.append(rolled_back)
    rolled_back.rollback()
    log.append()
    late = log.transaction()

    looks = list[str]()

    def meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        looks.extend([statement] if "pg_locks" in statement else [])
        if len(looks) == 1 and statement in looks:
            assert (log.append(late), log.append()) == (3, 4)
            assert seen(source.read(2, 10)) == ([], 2, True)

    event.listen(log.engine, "after_cursor_execute", meanwhile)
    assert seen(source.read(0, 10)) == ([2], 2, False)
    late.commit()
    assert seen(source.read(2, 10)) == ([3, 4], 4, False)


def test_a_prepared_transaction_is_waited_for(log: Log, source: SqlEventSource) -> None:
    """Two-phase commit: it lives on without its session."""
    first = log.transaction()
    log.append(first)
    log.append()
    assert seen(source.read(0, 10)) == ([], 0, True)
    try:
        first.execute(text("PREPARE TRANSACTION 'first'"))
    except Exception:
        pytest.skip("this server allows no prepared transactions (max_prepared_transactions = 0)")
    assert seen(source.read(0, 10)) == ([], 0, True)
    with log.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("COMMIT PREPARED 'first'"))
    assert seen(source.read(0, 10)) == ([1, 2], 2, False)


def test_partitions_are_one_log(postgres_url: str) -> None:
    """A writer who names a partition holds its lock only there; the log's name covers them all."""
    log = Log(postgres_url)
    log.change("DROP TABLE events")
    log.change(
        "CREATE TABLE events (sequence bigint GENERATED ALWAYS AS IDENTITY, event_id text, event_type text, "
        "stream_id text, PRIMARY KEY (sequence)) PARTITION BY RANGE (sequence)"
    )
    log.change("CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (1000)")
    source, first = SqlEventSource(log.engine, "events"), log.transaction()
    first.execute(text("SELECT nextval(pg_get_serial_sequence('events', 'sequence'))"))
    first.execute(text("INSERT INTO events_1 OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'Happened', 'A')"))
    log.append()
    assert seen(source.read(0, 10)) == ([], 0, True)
    first.commit()
    assert seen(source.read(0, 10)) == ([1, 2], 2, False)
    log.close()


def test_a_range_ends_where_it_was_asked_to_also_in_a_hole(log: Log, source: SqlEventSource) -> None:
    """A replay up to 3 has come to 3, with or without an event there; where the log ends before, to that end."""
    for _ in range(2):
        log.append()
    nobody = log.transaction()
    log.append(nobody)
    nobody.rollback()
    log.append()
    assert seen(source.read(0, 10, until=3)) == ([1, 2], 3, False)
    assert seen(source.read(0, 10, until=2)) == ([1, 2], 2, False)
    assert seen(source.read(3, 10, until=3)) == ([], 3, False)
    assert seen(SqlEventSource(log.engine, "events").read(0, 10, until=9)) == ([1, 2, 4], 4, False)


def test_a_range_ends_where_it_was_asked_to_also_after_a_reading_beyond(log: Log, source: SqlEventSource) -> None:
    """What is known to be final further on is none of its matter."""
    nobody = log.transaction()
    log.append(nobody)
    nobody.rollback()
    for _ in range(3):
        log.append()
    assert seen(source.read(0, 10)) == ([2, 3, 4], 4, False)
    assert seen(source.read(0, 10, until=2)) == ([2], 2, False)
    assert seen(source.read(0, 10, until=1)) == ([], 1, False)


def test_as_a_last_resort_a_hole_is_given_up(log: Log) -> None:
    """Said when the source is made, done after that time, and recorded with the reason."""
    source, first = SqlEventSource(log.engine, "events", give_up_after=timedelta(milliseconds=1)), log.transaction()
    log.append(first)
    log.append()
    source.read(0, 10)
    threading.Event().wait(0.01)
    batch = source.read(0, 10)
    assert seen(batch) == ([2], 2, False)
    assert [(hole.first, hole.last) for hole in batch.skipped] == [(1, 1)]
    assert "given up" in batch.skipped[0].reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE events ALTER sequence SET CACHE 20", "CACHE 20"),
        ("ALTER TABLE events DROP CONSTRAINT events_pkey", "not unique"),
        ("ALTER TABLE events RENAME sequence TO number", "no column 'sequence'; .*number.*: say with sequence="),
        ("ALTER TABLE events RENAME TO other; CREATE VIEW events AS SELECT * FROM other", "not unique|no table"),
        ("DROP TABLE events", "no table 'events'"),
        (
            "INSERT INTO events OVERRIDING SYSTEM VALUE VALUES (-5, 'a', 'b', 'c')",
            "begins at sequence -5",
        ),
    ],
)
def test_a_log_that_cannot_be_read_safely_is_refused(log: Log, source: SqlEventSource, change: str, says: str) -> None:
    """With what is wrong, before anything is read."""
    log.change(change)
    with pytest.raises(ConfigurationError, match=says):
        source.read(0, 10)


def test_a_serial_columns_cache_is_refused_too(log: Log) -> None:
    """Also where the sequence only stands in the column's default."""
    log.change("CREATE SEQUENCE numbers CACHE 50")
    log.change(
        "CREATE TABLE old (sequence bigint PRIMARY KEY DEFAULT nextval('numbers'), event_id text, event_type text, "
        "stream_id text)"
    )
    with pytest.raises(ConfigurationError, match="CACHE 50"):
        SqlEventSource(log.engine, "old").read(0, 1)


def test_ten_writers_that_commit_out_of_order_lose_nothing(log: Log, source: SqlEventSource) -> None:
    """A reader that follows meanwhile sees every committed event, once, in the sequence's order."""
    stop, committed = threading.Event(), list[int]()

    def write(number: int) -> None:
        for turn in range(30):
            with log.engine.connect() as connection:
                connection.begin()
                sequence = log.append(connection)
                stop.wait(0.001 * ((number * 7 + turn * 3) % 5))
                if (number + turn) % 4 == 0:
                    connection.rollback()
                else:
                    connection.commit()
                    committed.append(sequence)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    position, read, skipped = 0, list[int](), list[Any]()
    while any(thread.is_alive() for thread in threads) or position < source.head():
        batch = source.read(position, 50)
        read += [recorded.sequence for recorded in batch.events]
        skipped += batch.skipped
        position = batch.position
    assert read == sorted(committed)
    assert sum(hole.last - hole.first + 1 for hole in skipped) == 300 - len(committed) - (300 - position)
