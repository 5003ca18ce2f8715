"""The world of a chaos run: an event log, and what the handlers leave behind as evidence.

`chaos_journal` has no unique key, so what is applied twice stands there twice. `chaos_model` is a read model whose
`chain` depends on the order of everything that went into it; a handler reads it before it writes, so that two handlers
at once in one stream would show, too. `chaos_calls` is written past the guard's transaction, by handlers that are
apart. `chaos_switch` is how a run makes handlers fail.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

__all__ = ["APART", "FOLLOWED", "JOINED", "PUSHED", "Fact", "apply", "call_elsewhere", "create", "fact_of", "on_reset"]

PUSHED: Final = ("pushed", "pushed apart", "sick")
FOLLOWED: Final = ("followed", "followed batch", "followed apart")
APART: Final = ("pushed apart", "followed apart")
JOINED: Final = tuple(name for name in (*PUSHED, *FOLLOWED) if name not in APART)
_POISON_ONE_IN: Final = 61
_STUMBLES: Final = 0.01

_TABLES: Final = """
CREATE TABLE chaos_log (
    sequence {identity}, event_id varchar(255) UNIQUE, event_type varchar(255), stream_id varchar(255), n integer);
CREATE TABLE chaos_journal (id {identity}, projection varchar(50), stream varchar(50), n integer);
CREATE TABLE chaos_model (
    projection varchar(50), stream varchar(50), applied integer, last_n integer, chain varchar(32),
    PRIMARY KEY (projection, stream));
CREATE TABLE chaos_calls (id {identity}, projection varchar(50), stream varchar(50), n integer);
CREATE TABLE chaos_resets (projection varchar(50), at {moment});
CREATE TABLE chaos_switch (name varchar(20) PRIMARY KEY, is_on integer);
INSERT INTO chaos_switch VALUES ('poison', 1), ('stumble', 1), ('sick', 0)
"""


class Planted(ValueError):
    """A handler's error that the run has planted."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The event: the n-th of its stream."""

    event_id: str
    stream_id: str
    sequence: int
    n: int


def fact_of(row: Mapping[str, Any]) -> Fact:
    """Make the event of a row of the log."""
    return Fact(event_id=row["event_id"], stream_id=row["stream_id"], sequence=row["sequence"], n=row["n"])


def create(engine: Engine) -> None:
    """Make the tables."""
    is_sqlite = engine.dialect.name == "sqlite"
    words = {
        "identity": "INTEGER PRIMARY KEY AUTOINCREMENT"
        if is_sqlite
        else "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "moment": "text" if is_sqlite else "timestamptz",
    }
    with engine.begin() as connection:
        for statement in _TABLES.split(";"):
            connection.execute(text(statement.format(**words)))


_switch = text("SELECT is_on FROM chaos_switch WHERE name = :name")
_read = text("SELECT applied, chain FROM chaos_model WHERE projection = :projection AND stream = :stream")
_journal = text("INSERT INTO chaos_journal (projection, stream, n) VALUES (:projection, :stream, :n)")
_first = text("INSERT INTO chaos_model VALUES (:projection, :stream, :applied, :n, :chain)")
_next = text(
    "UPDATE chaos_model SET applied = :applied, last_n = :n, chain = :chain "
    "WHERE projection = :projection AND stream = :stream"
)
_call = text("INSERT INTO chaos_calls (projection, stream, n) VALUES (:projection, :stream, :n)")


def fails(projection: str, fact: Fact, is_on: Callable[[str], bool]) -> bool:
    """Say whether this call is to fail: some events always do, any may stumble once, all of the sick one's."""
    if zlib.crc32(f"{projection} {fact.event_id}".encode()) % _POISON_ONE_IN == 0 and is_on("poison"):
        return True
    if projection == "sick" and is_on("sick"):
        return True
    return random.random() < _STUMBLES and is_on("stumble")


def apply(connection: Connection, projection: str, fact: Fact) -> None:
    """Do what a joined handler does: write the journal, and the read model from what stands in it. Then it may fail."""
    where = {"projection": projection, "stream": fact.stream_id, "n": fact.n}
    connection.execute(_journal, where)
    row = connection.execute(_read, where).one_or_none()
    chain = hashlib.md5(f"{row.chain if row else ''}:{fact.n}".encode(), usedforsecurity=False).hexdigest()
    values = where | {"applied": row.applied + 1 if row else 1, "chain": chain}
    connection.execute(_next if row else _first, values)
    if fails(projection, fact, lambda name: bool(connection.execute(_switch, {"name": name}).scalar_one())):
        raise Planted("planted")


def call_elsewhere(engine: Engine, projection: str, fact: Fact) -> None:
    """Do what an apart handler does: write past the guard, in a transaction of its own."""
    with engine.begin() as connection:
        if fails(projection, fact, lambda name: bool(connection.execute(_switch, {"name": name}).scalar_one())):
            raise Planted("planted")
        connection.execute(_call, {"projection": projection, "stream": fact.stream_id, "n": fact.n})


def on_reset(connection: Connection, projection: str) -> None:
    """Clear a joined read model and its evidence, and leave a note of when."""
    where = {"projection": projection}
    connection.execute(text("DELETE FROM chaos_journal WHERE projection = :projection"), where)
    connection.execute(text("DELETE FROM chaos_model WHERE projection = :projection"), where)
    is_sqlite = connection.dialect.name == "sqlite"
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')" if is_sqlite else "clock_timestamp()"
    connection.execute(text(f"INSERT INTO chaos_resets VALUES (:projection, {now})"), where)
