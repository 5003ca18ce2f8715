"""The revisions' operations in the words of MariaDB and MySQL; elsewhere they are Alembic's own.

It is part of the revisions: like them it does not change what it has made in a release.

There each statement commits by itself, so that an upgrade may break off in the middle of a revision. Everything is
therefore made only where it is not there yet: run again, the upgrade goes on where it stopped.

What is other: texts are compared letter by letter (case, accents and blanks at the end count), times have microseconds,
texts have no end after 64 KiB, a UUID is 32 hexadecimal digits. An index knows no WHERE: it is made of all rows, and
where it has to be unique among some, of an invisible column that is NULL in the others.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import sqlalchemy as sa
from alembic.operations import Operations as Alembic
from sqlalchemy.dialects import mysql

__all__ = ["GENERATIONS", "INSTEAD_OF_WHERE", "MYSQL", "Operations", "on_this_database"]

MYSQL: Final = ("mysql", "mariadb")
GENERATIONS: Final = "projection_generations"
"""A table that is nowhere else."""
INSTEAD_OF_WHERE: Final = {
    "uq_projection_failures_open": "uq_projection_failures_open_key",
    "uq_projection_replays_unfinished": "uq_projection_replays_unfinished_key",
}
"""The indexes that are unique among some rows only, and their invisible columns."""


class Operations(Protocol):
    """What the revisions do."""

    def create_table(self, name: str, *columns: Any, **options: Any) -> object:
        """Make a table."""
        ...

    def drop_table(self, name: str) -> object:
        """Drop a table."""
        ...

    def create_index(self, name: str, table: str, columns: Any, *, unique: bool = False, **options: Any) -> object:
        """Make an index."""
        ...

    def drop_index(self, name: str, table_name: str) -> object:
        """Drop an index."""
        ...

    def add_column(self, table: str, column: Any) -> object:
        """Add a column."""
        ...

    def drop_column(self, table: str, name: str) -> object:
        """Drop a column."""
        ...


def on_this_database(op: Any) -> Operations:
    """Return Alembic's operations, or what does the same on MariaDB and MySQL."""
    return _OnMysql(op) if op.get_context().dialect.name in MYSQL else op


class _OnMysql:
    def __init__(self, op: Alembic) -> None:
        self._op = op
        self._context: Any = op.get_context()

    def create_table(self, name: str, *columns: Any, **options: Any) -> None:
        if self._has_table(name):
            return
        for each in columns:
            if isinstance(each, sa.Column):
                _spell(each)
        own = {key: value for key, value in options.items() if not key.startswith("sqlite_")}
        collation = "utf8mb4_nopad_bin" if self._is_mariadb() else "utf8mb4_0900_bin"
        dialect = self._context.dialect.name
        own |= {f"{dialect}_engine": "InnoDB", f"{dialect}_charset": "utf8mb4", f"{dialect}_collate": collation}
        self._op.create_table(name, *columns, **own)

    def drop_table(self, name: str) -> None:
        self._op.drop_table(name)

    def create_index(self, name: str, table: str, columns: Any, *, unique: bool = False, **options: Any) -> None:
        if self._has_index(table, name):
            return
        where = options.get("sqlite_where")
        if unique and where is not None:
            *others, last = columns
            column = INSTEAD_OF_WHERE[name]
            if not self._has_column(table, column):
                self._op.execute(
                    f"ALTER TABLE {table} ADD COLUMN {column} VARCHAR(255) GENERATED ALWAYS AS "
                    f"(CASE WHEN {where.text} THEN {last} END) STORED INVISIBLE"
                )
            columns = [*others, column]
        self._op.create_index(name, table, columns, unique=unique)

    def drop_index(self, name: str, table_name: str) -> None:
        if self._context.as_sql or self._has_index(table_name, name):
            self._op.drop_index(name, table_name=table_name)

    def add_column(self, table: str, column: Any) -> None:
        if not self._has_column(table, column.name):
            _spell(column)
            self._op.add_column(table, column)

    def drop_column(self, table: str, name: str) -> None:
        self._op.drop_column(table, name)

    def _is_mariadb(self) -> bool:
        dialect = self._context.dialect
        return bool(dialect.is_mariadb) or dialect.name == "mariadb"

    def _looked(self) -> Any:
        return None if self._context.as_sql else sa.inspect(self._op.get_bind())

    def _has_table(self, name: str) -> bool:
        looked = self._looked()
        return looked is not None and bool(looked.has_table(name))

    def _has_column(self, table: str, name: str) -> bool:
        looked = self._looked()
        return looked is not None and name in {each["name"] for each in looked.get_columns(table)}

    def _has_index(self, table: str, name: str) -> bool:
        looked = self._looked()
        return looked is not None and name in {each["name"] for each in looked.get_indexes(table)}


def _spell(column: Any) -> None:
    kind = column.type
    if isinstance(kind, sa.DateTime):
        column.type = mysql.DATETIME(fsp=6)
    elif isinstance(kind, sa.Text):
        column.type = mysql.LONGTEXT()
    elif isinstance(kind, sa.Uuid):
        column.type = sa.CHAR(32)
