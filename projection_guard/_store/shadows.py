"""Tables beside those of a read model: made alike, written to by the same handler, compared, and exchanged for them.

On PostgreSQL they stand in a schema of their own, which comes first in the search path of the transactions that build.
SQLite has no such path: there they stand beside the others under names with a prefix, and a transaction that builds
exchanges the names before it calls the handler, and back before it commits; nobody else sees that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from zlib import crc32

from sqlalchemy import Connection, inspect, text

from .._dialect import is_mysql, is_sqlite
from .._model import Json
from ..errors import ConfigurationError
from . import samples
from .samples import Sample

__all__ = [
    "Compared",
    "compare",
    "count_apart",
    "drop",
    "exchange",
    "give_back",
    "handed_out",
    "lacking",
    "lend",
    "make",
    "quoted",
    "shadow",
    "stored_columns",
]

_LIVE: Final = "projection_guard_live_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A table and its shadow: how many rows each has, how many only one of them has, whether they are alike.

    `sample` names some of the rows that differ; None where there are none.
    """

    table: str
    rows_before: int
    rows_after: int
    only_before: int
    only_after: int
    digest_before: str
    digest_after: str
    sample: Sample | None

    def as_json(self) -> dict[str, Json]:
        """Return it as it is kept with the job."""
        return asdict(self)


def make(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Make the shadows, empty. Raises `ConfigurationError` where a table is missing, or something has their place."""
    if is_mysql(connection.dialect):
        raise ConfigurationError(
            "on MariaDB and MySQL no read model is built beside the live one, and none is verified: there, what makes "
            "a table commits everything before it. For a rebuild leave into= out"
        )
    there = set(inspect(connection).get_table_names())
    for table in tables:
        if table not in there:
            raise ConfigurationError(f"There is no table {table!r} to rebuild beside; tables= names the read model's")
    if _is_sqlite(connection):
        for table in tables:
            name = _on_sqlite(into, table)
            if name in there:
                raise ConfigurationError(f"A table {name!r} is there already; drop it, or choose another into=")
        _copy_on_sqlite(connection, into, tables)
        return
    if into in inspect(connection).get_schema_names():
        raise ConfigurationError(f"A schema {into!r} is there already; drop it, or choose another into=")
    connection.execute(text(f"CREATE SCHEMA {quoted(connection, into)}"))
    for table in tables:
        made, like = shadow(connection, into, table), quoted(connection, table)
        connection.execute(text(f"CREATE TABLE {made} (LIKE {like} INCLUDING ALL)"))
    for table in tables:
        _let_follow(connection, into, table, tables)


def _let_follow(connection: Connection, into: str, table: str, tables: Sequence[str]) -> None:
    """Let rows of a shadow go, or change, with those that they refer to, as they do in the live tables.

    PostgreSQL's LIKE leaves foreign keys out. Those that only refuse stay out: what once was refused, and healed, may
    stand in the log before what it refers to.
    """
    for found in inspect(connection).get_foreign_keys(table):
        key: Any = found
        options: dict[str, Any] = key["options"]
        changes = [options.get(on) not in (None, "RESTRICT", "NO ACTION") for on in ("ondelete", "onupdate")]
        if key["referred_schema"] is None and key["referred_table"] in tables and any(changes):
            words = {"match": "MATCH", "onupdate": "ON UPDATE", "ondelete": "ON DELETE", "initially": "INITIALLY"}
            said = [f"{words[name]} {options[name]}" for name in words if options.get(name)]
            if options.get("deferrable"):
                said.insert(-1 if options.get("initially") else len(said), "DEFERRABLE")
            columns = ", ".join(quoted(connection, name) for name in key["constrained_columns"])
            others = ", ".join(quoted(connection, name) for name in key["referred_columns"])
            connection.execute(
                text(
                    f"ALTER TABLE {shadow(connection, into, table)} ADD FOREIGN KEY ({columns}) "
                    f"REFERENCES {shadow(connection, into, key['referred_table'])} ({others}) {' '.join(said)}"
                )
            )


def count_apart(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Let serial columns of the shadows count by themselves: PostgreSQL has given them the live tables' sequences."""
    if _is_sqlite(connection):
        return
    for table in tables:
        columns: list[Any] = list(inspect(connection).get_columns(table))
        for number, column in enumerate(columns):
            if _is_serial(column):
                sequence = f"{quoted(connection, into)}.{quoted(connection, f'{table[:40]}_{number}_counts')}"
                literal = sequence.replace("'", "''").replace(":", "\\:")
                made, name = shadow(connection, into, table), quoted(connection, column["name"])
                connection.execute(text(f"CREATE SEQUENCE {sequence}"))
                connection.execute(text(f"ALTER TABLE {made} ALTER COLUMN {name} SET DEFAULT nextval('{literal}')"))


def handed_out(connection: Connection, table: str) -> tuple[str, ...]:
    """Name the columns whose numbers the database hands out: serial, identity, AUTOINCREMENT.

    A rollback uses them up on PostgreSQL, and rows that are written in another order get others: they say nothing.
    """
    columns: list[Any] = list(inspect(connection).get_columns(table))
    if _is_sqlite(connection):
        key = inspect(connection).get_pk_constraint(table)["constrained_columns"]
        made_by = text("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = :t")
        words = str(connection.execute(made_by, {"t": table}).scalar_one())
        return tuple(key) if len(key) == 1 and "AUTOINCREMENT" in words.upper() else ()
    return tuple(column["name"] for column in columns if column.get("identity") or _is_serial(column))


def _is_serial(column: Any) -> bool:
    return str(column["default"] or "").startswith("nextval(")


def lacking(connection: Connection, into: str, tables: Sequence[str]) -> list[str]:
    """Name the tables that are not there, or have no shadow."""
    live = set(inspect(connection).get_table_names())
    if _is_sqlite(connection):
        return [table for table in tables if not live.issuperset((table, _on_sqlite(into, table)))]
    there = live.intersection(inspect(connection).get_table_names(schema=into))
    return [table for table in tables if table not in there]


def drop(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Take the shadows away; on MariaDB and MySQL there are none, and a schema would be a database."""
    if is_mysql(connection.dialect):
        return
    if not _is_sqlite(connection):
        connection.execute(text(f"DROP SCHEMA IF EXISTS {quoted(connection, into)} CASCADE"))
        return
    left = list(reversed(tables))
    while left:  # where SQLite enforces foreign keys, a table goes after those that refer to it
        referred = {name for table in left for name in _referred(connection, _on_sqlite(into, table))}
        table = next((each for each in left if _on_sqlite(into, each) not in referred), left[0])
        connection.execute(text(f"DROP TABLE IF EXISTS {shadow(connection, into, table)}"))
        left.remove(table)


def _referred(connection: Connection, table: str) -> set[str]:
    """Name the other tables that a table of SQLite refers to."""
    keys = connection.exec_driver_sql(f"PRAGMA foreign_key_list({quoted(connection, table)})")
    return {str(key.table) for key in keys} - {table}


def lend(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Let the names of the read model's tables mean the shadows, in this transaction."""
    if _is_sqlite(connection):
        for table in tables:
            _rename(connection, table, _LIVE + table)
            _rename(connection, _on_sqlite(into, table), table)
        return
    path = text("SELECT set_config('search_path', :into || ', ' || current_setting('search_path'), true)")
    connection.execute(path, {"into": quoted(connection, into)})


def give_back(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Let lent names mean what they meant before. PostgreSQL: whoever set the search path restores it."""
    if _is_sqlite(connection) and inspect(connection).has_table(_LIVE + tables[0]):
        for table in tables:
            _rename(connection, table, _on_sqlite(into, table))
            _rename(connection, _LIVE + table, table)


def compare(connection: Connection, into: str, table: str) -> Compared:
    """Compare a table and its shadow, row by row."""
    before, after = quoted(connection, table), shadow(connection, into, table)
    rows_before, digest_before = _digest(connection, before)
    rows_after, digest_after = _digest(connection, after)
    is_alike = (rows_before, digest_before) == (rows_after, digest_after)
    return Compared(
        table=table,
        rows_before=rows_before,
        rows_after=rows_after,
        only_before=0 if is_alike else _only_in(connection, before, after),
        only_after=0 if is_alike else _only_in(connection, after, before),
        digest_before=digest_before,
        digest_after=digest_after,
        sample=None if is_alike else samples.take(connection, table, before, after, stored_columns(connection, table)),
    )


def exchange(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Let the read model's tables hold what the shadows hold: whoever reads sees the one or the other.

    The tables stay the same ones, with their indexes, grants, views and foreign keys; `tables` is in the order in which
    rows can be inserted.
    """
    for table in reversed(tables):
        connection.execute(text(f"DELETE FROM {quoted(connection, table)}"))
    for table in tables:
        columns = ", ".join(quoted(connection, name) for name in stored_columns(connection, table))
        overriding = "" if _is_sqlite(connection) else "OVERRIDING SYSTEM VALUE"
        connection.execute(
            text(
                f"INSERT INTO {quoted(connection, table)} ({columns}) {overriding} "
                f"SELECT {columns} FROM {shadow(connection, into, table)}"
            )
        )
        if not _is_sqlite(connection):
            _advance_sequences(connection, table)


def _is_sqlite(connection: Connection) -> bool:
    return is_sqlite(connection.dialect)


def _on_sqlite(into: str, table: str) -> str:
    return f"{into}_{table}"


def quoted(connection: Connection, name: str) -> str:
    """Quote a name."""
    return connection.dialect.identifier_preparer.quote_identifier(name)


def shadow(connection: Connection, into: str, table: str) -> str:
    """Return the quoted name of a table's shadow."""
    if _is_sqlite(connection):
        return quoted(connection, _on_sqlite(into, table))
    return f"{quoted(connection, into)}.{quoted(connection, table)}"


def _rename(connection: Connection, table: str, name: str) -> None:
    connection.execute(text(f"ALTER TABLE {quoted(connection, table)} RENAME TO {quoted(connection, name)}"))


def _copy_on_sqlite(connection: Connection, into: str, tables: Sequence[str]) -> None:
    """Make tables like others: from their own words, while those have other names; and their indexes.

    All are made before any gets its name, so that those that refer to one another go on doing so among themselves.
    """
    words = text(
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = :t AND sql IS NOT NULL AND type <> 'trigger'"
    )
    found = {table: connection.execute(words, {"t": table}).all() for table in tables}
    for table in tables:
        _rename(connection, table, _LIVE + table)
    for table in tables:
        connection.exec_driver_sql(next(row.sql for row in found[table] if row.type == "table"))
    for table in tables:
        _rename(connection, table, _on_sqlite(into, table))
    for table in tables:
        _rename(connection, _LIVE + table, table)
    for table in tables:
        for row in found[table]:
            if row.type == "index":
                made = _on_sqlite(into, table)
                connection.exec_driver_sql(_indexing(connection, row.sql, f"{made}_{row.name}", made))


def _indexing(connection: Connection, words: str, name: str, table: str) -> str:
    """Return what makes an index, with another name and on another table."""
    parts = re.match(r"(?is)(CREATE\s+(?:UNIQUE\s+)?INDEX\s+).*?(\s+ON\s+)(?:\"[^\"]+\"|\w+)(.*)", words)
    assert parts is not None
    return f"{parts[1]}{quoted(connection, name)}{parts[2]}{quoted(connection, table)}{parts[3]}"


def stored_columns(connection: Connection, table: str) -> list[str]:
    """Name the columns of a table that hold what was written, and are not computed."""
    columns: list[Any] = list(inspect(connection).get_columns(table))
    return [column["name"] for column in columns if not column.get("computed")]


def _digest(connection: Connection, table: str) -> tuple[int, str]:
    """Count the rows, and add up a hash of each: the order does not matter."""
    if _is_sqlite(connection):
        number = total = 0
        for row in connection.exec_driver_sql(f"SELECT * FROM {table}"):
            number, total = number + 1, (total + crc32(repr(tuple(row)).encode())) % 2**64
        return number, f"{total:x}"
    statement = text(
        f"SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0) FROM {table} t"
    )
    found = connection.execute(statement).one()
    return int(found[0]), f"{int(found[1]) % 2**64:x}"


def _only_in(connection: Connection, first: str, second: str) -> int:
    row = "*" if _is_sqlite(connection) else "t::text"
    statement = f"SELECT count(*) FROM (SELECT {row} FROM {first} t EXCEPT SELECT {row} FROM {second} t) d"
    return int(connection.exec_driver_sql(statement).scalar_one())


def _advance_sequences(connection: Connection, table: str) -> None:
    """Let serial and identity columns count on from what was copied into them."""
    of_table = quoted(connection, table)
    for name in stored_columns(connection, table):
        sequence = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": of_table, "column": name}
        ).scalar_one_or_none()
        if sequence is not None:
            column = quoted(connection, name)
            connection.execute(
                text(
                    f"SELECT setval(CAST(:sequence AS regclass), max({column})) "
                    f"FROM {of_table} HAVING max({column}) > 0"
                ),
                {"sequence": sequence},
            )
