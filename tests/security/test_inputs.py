"""What comes from outside, or from whoever can write into the tables, is data and never becomes anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import pytest
from sqlalchemy import Connection, text

from projection_guard import CodecError, JsonCodec, SqlEventSource
from projection_guard._http.problems import Problem
from tests.bed import Bed
from tests.following.beside import LATER
from tests.following.logs import FollowedLog

HOSTILE = 'lo"g; DROP TABLE counted; --:x'


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_names_from_configuration_are_quoted(blocking_bed: Bed) -> None:
    """Of a log's table and its columns."""
    bed = blocking_bed
    if bed.database == "sqlite":
        columns = "INTEGER PRIMARY KEY AUTOINCREMENT"
    else:
        columns = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    table, sequence, event_id = (_quoted(f"{each} {HOSTILE}") for each in ("t", "s", "e"))
    driver = f"CREATE TABLE {table} ({sequence} {columns}, {event_id} varchar(50), event_type text, stream_id text)"
    insert = f"INSERT INTO {table} ({event_id}, event_type, stream_id) VALUES ('1', 'Happened', 'A')"
    with bed.engine.begin() as connection:
        for statement in (driver, insert):
            connection.exec_driver_sql(statement)
    source = SqlEventSource(bed.url, f"t {HOSTILE}", sequence=f"s {HOSTILE}", event_id=f"e {HOSTILE}")
    bed.on_close(source.close)
    (event,) = source.read(0, 10).events
    assert event.record is not None
    assert event.record.event_id == "1"
    assert source.get("1") is not None
    assert source.head() == 1
    assert bed.value("SELECT count(*) FROM counted") == 0


def test_names_of_a_read_models_tables_are_quoted(blocking_bed: Bed) -> None:
    """When it is built beside, compared, exchanged, and what was beside is dropped."""
    bed, name = blocking_bed, 'mo"del; DROP TABLE counted; --'
    table = _quoted(name)
    bed.past_the_library(lambda c: c.exec_driver_sql(f'CREATE TABLE {table} ("i""d" varchar(50) PRIMARY KEY)'))

    def handle(event: Any, connection: Connection) -> None:
        connection.execute(text(f'INSERT INTO {table} ("i""d") VALUES (:id)'), {"id": event.event_id})

    log = FollowedLog(bed)
    guard = log.guard(retry=LATER)
    bed.joined(guard, "P", handle, tables=[name])
    log.append("A", "B")
    guard.catch_up("P")
    bed.change(f'DELETE FROM {table} WHERE "i""d" = \'A#1\'')
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"
    assert bed.value(f"SELECT count(*) FROM {table}") == 2
    assert bed.value("SELECT count(*) FROM counted") == 0


class _Trap:
    """Somebody's class that has nothing to do with events."""

    made = 0

    def __new__(cls) -> Self:
        cls.made += 1
        return super().__new__(cls)


@dataclass
class _Known:
    anything: object
    more: Any


def _deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    "stored",
    [
        {"$class": "_Trap", "data": {}},
        {"$class": "tests.security.test_inputs._Trap", "data": {}},
        {"$class": "Popen", "data": {"args": ["true"]}},
        {"$class": "os.system", "data": "true"},
        {"$enum": ["_Trap", "made"]},
        {"$enum": ["_Known", "__class__"]},
        {"$python/object/apply:os.system": ["true"]},
        {"$class": "_Known", "data": {"__class__": {"$class": "_Trap", "data": {}}}},
        {"$datetime": ["2026-01-01", "../../../etc/passwd", 0]},
        {"$float": "__import__('os')"},
        _deep(100_000),
    ],
    ids=range(11),
)
def test_what_stands_in_a_row_makes_nothing_but_registered_events(stored: Any) -> None:
    """No class by its path, none that is not an event's, no attribute that is no field, no file, no stack overflow."""
    codec = JsonCodec()
    codec.register(_Known)
    with pytest.raises(CodecError):
        codec.decode(stored)
    assert _Trap.made == 0


def test_a_header_cannot_be_given_a_second_line() -> None:
    """What an application's error wants to have sent is left out where it is no header."""
    headers = {"X-Good": "1", "X-Bad": "1\r\nSet-Cookie: a=b", "X-Worse\n": "1", "X-Odd": "\u20ac"}
    response = Problem(status=401, kind="refused", detail="no", headers=headers).as_response("/", "1")
    assert response.headers == {"X-Good": "1"}
