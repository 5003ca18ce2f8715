"""What a SQL source reads for a share: by the server's MD5 where it says what Python's does, else told here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, event, text

from projection_guard import Share, SqlEventSource
from projection_guard._source import partition_of

OF = 5
TEXTS = ["A", "b", "", "stream-17", "Ærø", "Кот", "日本", "🐈", "x" * 255, " padded ", "per%cent", None]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """A database of the test's own."""
    made = create_engine(postgres_url)
    yield made
    made.dispose()


def log_of(engine: Engine, kind: str, streams: list[Any]) -> None:
    """Make a log with a column of this kind, and an event in each of the streams."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE events (sequence bigserial PRIMARY KEY, event_id uuid NOT NULL DEFAULT gen_random_uuid(),"
                f" event_type text NOT NULL DEFAULT 'Happened', stream_id {kind}, payload text NOT NULL DEFAULT 'big')"
            )
        )
        connection.execute(
            text("INSERT INTO events (stream_id) VALUES (:stream)"), [{"stream": stream} for stream in streams]
        )


def read_in_shares(source: SqlEventSource, decoded: list[object]) -> dict[int, list[tuple[int, str | None, str]]]:
    """Read each share; return by its number the sequences, streams and ids that were in it."""
    found = dict[int, list[tuple[int, str | None, str]]]()
    for number in range(OF):
        decoded.clear()
        batch = source.read(0, 100, share=Share(partitions=frozenset({number}), of=OF))
        assert batch.position == source.head()
        assert len(decoded) == len(batch.events)
        records = [recorded.record for recorded in batch.events if recorded.record is not None]
        found[number] = [(record.sequence or 0, record.stream_id, record.event_id) for record in records]
    return found


@pytest.mark.parametrize(
    ("kind", "streams", "is_told_by_the_server"),
    [
        ("text", TEXTS, True),
        ("varchar(255)", TEXTS, True),
        ("uuid", [UUID(int=number) for number in range(12)], True),
        ("bigint", [-7, 0, 1, 2, 3, 2**40, None], True),
        ("char(6)", ["A", "b", "abcdef"], False),
        ("numeric", [1, 2, 3, 4, 5], False),
    ],
)
def test_the_server_divides_as_python_does(
    engine: Engine, kind: str, streams: list[Any], *, is_told_by_the_server: bool
) -> None:
    """Each event is in one share, its stream's; only there is it decoded, and only there is its payload sent."""
    log_of(engine, kind, streams)
    decoded = list[object]()
    asked = list[str]()

    def decode(row: Mapping[str, object]) -> object:
        assert set(row) == {"sequence", "event_id", "event_type", "stream_id", "payload"}
        assert row["payload"] == "big"
        decoded.append(row)
        return row

    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    found = read_in_shares(SqlEventSource(engine, "events", decode=decode), decoded)
    assert any("convert_to" in sql for sql in asked) == is_told_by_the_server
    assert sorted(sequence for events in found.values() for sequence, _, _ in events) == [*range(1, len(streams) + 1)]
    for number, events in found.items():
        assert {partition_of(event_id if stream is None else stream, OF) for _, stream, event_id in events} <= {number}


def test_a_log_without_streams_goes_by_its_events_ids(engine: Engine) -> None:
    """The whole log is read, each event by one."""
    decoded = list[object]()
    log_of(engine, "text", TEXTS)
    found = read_in_shares(SqlEventSource(engine, "events", stream_id=None, decode=decoded.append), decoded)
    assert sum(map(len, found.values())) == len(TEXTS)
    for number, events in found.items():
        assert {partition_of(event_id, OF) for _, _, event_id in events} <= {number}


def test_an_event_without_any_id_is_in_every_share(engine: Engine) -> None:
    """Nothing tells whose it is; the guard says it, and no reader misses it."""
    log_of(engine, "text", [None])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE events ALTER event_id DROP NOT NULL"))
        connection.execute(text("UPDATE events SET event_id = NULL"))
    decoded = list[object]()
    found = read_in_shares(SqlEventSource(engine, "events", decode=decoded.append), decoded)
    assert all(len(events) == 1 for events in found.values())


def test_a_server_without_md5_is_read_all_the_same(engine: Engine, postgres_url: str) -> None:
    """As in FIPS mode: it is told here then."""
    decoded = list[object]()
    log_of(engine, "text", TEXTS)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA fips"))
        for kind in ("text", "bytea"):
            body = "BEGIN RAISE EXCEPTION 'could not compute MD5 hash: unsupported'; END"
            connection.execute(text(f"CREATE FUNCTION fips.md5({kind}) RETURNS text LANGUAGE plpgsql AS $$ {body} $$"))
    strict = create_engine(postgres_url, connect_args={"options": "-csearch_path=fips,public,pg_catalog"})
    found = read_in_shares(SqlEventSource(strict, "events", decode=decoded.append), decoded)
    strict.dispose()
    assert sum(map(len, found.values())) == len(TEXTS)


def test_a_page_of_a_share_scans_no_more_than_was_asked_for(engine: Engine) -> None:
    """So that it never runs through a long log for a reader who has nothing in it."""
    log_of(engine, "text", ["A"] * 40)
    source = SqlEventSource(engine, "events")
    other = Share(partitions=frozenset({(partition_of("A", OF) + 1) % OF}), of=OF)
    batch = source.read(0, 10, share=other)
    assert (list(batch.events), batch.position) == ([], 10)
    assert source.read(30, 10, 35, share=other).position == 35
