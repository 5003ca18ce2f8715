"""A log whose `Table` the application declares: its columns are read, and its order is the database's word."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, create_engine, text

from projection_guard import ProjectionGuard, SqlEventSource
from projection_guard.errors import ConfigurationError

_CREATE = "CREATE TABLE log (sequence {key}, event_id text UNIQUE, event_type text, stream_id text, large text)"
_INSERT = "INSERT INTO log VALUES (1, 'a', 'Happened', 'A', 'much')"


def declared(*, primary_key: bool = True) -> Table:
    """Declare the log, without its largest column."""
    return Table(
        "log",
        MetaData(),
        Column("sequence", Integer, primary_key=primary_key),
        *(Column(name, Text()) for name in ("event_id", "event_type", "stream_id")),
    )


def made(url: str, key: str) -> Engine:
    """Make the log in a database."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(_CREATE.format(key=key)))
        connection.execute(text(_INSERT))
    return engine


def test_only_the_columns_that_are_declared_are_read(database_url: str) -> None:
    """What decode has no need of is left where it is."""
    engine = made(database_url, "integer PRIMARY KEY")
    (recorded,) = SqlEventSource(engine, declared(primary_key=False)).read(0, 10).events
    assert recorded.event == {"sequence": 1, "event_id": "a", "event_type": "Happened", "stream_id": "A"}
    engine.dispose()


def test_a_primary_key_that_is_only_declared_is_none(database_url: str) -> None:
    """Nothing in the database would keep the sequence unique."""
    engine = made(database_url, "integer")
    with pytest.raises(ConfigurationError, match="'sequence' of the log 'log' is not unique"):
        SqlEventSource(engine, declared()).read(0, 10)
    engine.dispose()


def test_a_declared_table_that_is_not_there_is_said_to_be_missing(database_url: str) -> None:
    """By its name, as where only the name is given."""
    engine = create_engine(database_url)
    for log in (declared(), "log"):
        with pytest.raises(ConfigurationError, match="There is no table 'log'"):
            SqlEventSource(engine, log).read(0, 10)
    engine.dispose()


def test_a_type_that_sqlalchemy_does_not_know_disturbs_nobody(postgres_url: str) -> None:
    """Looking the table up would warn of it; warnings are errors here."""
    engine = made(postgres_url, "integer PRIMARY KEY")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE log ADD COLUMN txid xid8 DEFAULT pg_current_xact_id()"))
    assert len(SqlEventSource(engine, declared()).read(0, 10).events) == 1
    engine.dispose()


@pytest.mark.parametrize("is_declared", [True, False])
def test_an_event_that_is_a_row_can_be_looked_at_where_it_fails(database_url: str, is_declared: bool) -> None:
    """Its keys are plain text, whatever SQLAlchemy's names of columns are: a codec takes nothing else for JSON."""
    engine = made(database_url, "integer PRIMARY KEY")
    log = declared(primary_key=False) if is_declared else "log"
    with ProjectionGuard(engine, source=SqlEventSource(engine, log), worker="external") as guard:
        guard.migrate()

        @guard.projection("Broken")
        def broken(event: object, connection: Connection) -> None:
            raise LookupError

        guard.catch_up("Broken")
        (failure,) = guard.failures("Broken").items
        shown = guard.editable_payload(failure.id)
    large = {} if is_declared else {"large": "much"}
    row = {"sequence": 1, "event_id": "a", "event_type": "Happened", "stream_id": "A"}
    assert json.loads(shown or "null") == {**row, **large}
    engine.dispose()
