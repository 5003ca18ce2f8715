"""Statements that are not said the same way everywhere: upserts, changes that tell what they changed, an order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Delete,
    Table,
    Update,
    bindparam,
    delete,
    select,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from .families import MYSQL, is_mysql, is_sqlite

__all__ = [
    "LIMITS",
    "Bound",
    "Changing",
    "Condition",
    "Insert",
    "PerDialect",
    "absent_last",
    "deleted_among",
    "is_among",
    "total",
]

S = TypeVar("S")


class MysqlInsert(mysql.Insert):
    """An INSERT of MariaDB's or MySQL's that speaks of conflicts as the others do.

    Never INSERT IGNORE: that would also cut off what is too long, and take it for another row's key.
    """

    inherit_cache = mysql.Insert.inherit_cache  # SQLAlchemy 2.0 cannot keep compiled what it does on a conflict

    def on_conflict_do_nothing(self, index_elements: object = None) -> MysqlInsert:
        """Leave a row with the same key as it is."""
        del index_elements
        table: Any = self.table
        key: Any = next(iter(table.primary_key))
        return self.on_duplicate_key_update({key.name: key})

    def on_conflict_do_update(
        self, index_elements: object = None, set_: Mapping[str, Any] | None = None
    ) -> MysqlInsert:
        """Change a row with the same key. What changes others comes last: it is done from left to right."""
        del index_elements
        return self.on_duplicate_key_update(dict(set_ or {}))

    @property
    def excluded(self) -> Any:
        """The row that was to be inserted."""
        return self.inserted


Insert = postgresql.Insert | sqlite.Insert | MysqlInsert


class PerDialect(Generic[S]):
    """A statement that needs `ON CONFLICT`, built once at import for each database."""

    __slots__ = ("_mysql", "_postgresql", "_sqlite")

    def __init__(self, build: Callable[[Callable[[Any], Insert]], S]) -> None:
        self._postgresql = build(postgresql.insert)
        self._sqlite = build(sqlite.insert)
        self._mysql = build(MysqlInsert)

    def of(self, connection: Connection) -> S:
        """Return the statement for the database behind this connection."""
        if is_sqlite(connection.dialect):
            return self._sqlite
        return self._mysql if is_mysql(connection.dialect) else self._postgresql


class Changing:
    """An UPDATE or DELETE that tells of each row it changed: as it is then, or was, where it is deleted.

    One statement with RETURNING; on MariaDB and MySQL, which have none for an UPDATE, the rows are locked by a SELECT,
    changed and read by their keys. So there, too, a row that somebody else has changed meanwhile is judged as it is.
    """

    __slots__ = ("_at_once", "_change", "_find", "_is_delete", "_read")

    def __init__(self, statement: Update | Delete, where: Sequence[ColumnElement[bool]], *told: Any) -> None:
        """Take the statement without its WHERE, what that is, and the columns that are told."""
        self._at_once: Any = statement.where(*where).returning(*told)
        self._is_delete = isinstance(statement, Delete)
        table = statement.table
        assert isinstance(table, Table)
        keys = list(table.primary_key)
        key: ColumnElement[Any] = keys[0] if len(keys) == 1 else tuple_(*keys)
        is_found = key.in_(bindparam("projection_guard_found", expanding=True))
        self._find = select(*keys).where(*where).with_for_update()
        self._change = statement.where(is_found)
        self._read = select(*told).where(is_found)

    def run(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[Any]:
        """Do it, and return the rows."""
        if not is_mysql(connection.dialect):
            return connection.execute(self._at_once, parameters).all()
        rows = connection.execute(self._find, parameters).all()
        if not rows:
            return []
        found = {"projection_guard_found": [row[0] if len(row) == 1 else tuple(row) for row in rows]}
        parameters = {**parameters, **found}
        if self._is_delete:
            told = connection.execute(self._read, parameters).all()
            connection.execute(self._change, found)
            return told
        connection.execute(self._change, parameters)
        return connection.execute(self._read, found).all()


def deleted_among(connection: Connection, table: Table, which: Any, parameters: Mapping[str, object]) -> int:
    """Delete the rows whose keys a SELECT with a LIMIT finds; return how many. One statement where that can be said."""
    keys = list(table.primary_key)
    key: ColumnElement[Any] = keys[0] if len(keys) == 1 else tuple_(*keys)
    if not is_mysql(connection.dialect):
        return connection.execute(delete(table).where(key.in_(which)), parameters).rowcount
    rows = connection.execute(which, parameters).all()
    if not rows:
        return 0
    found = [row[0] if len(row) == 1 else tuple(row) for row in rows]
    return connection.execute(delete(table).where(key.in_(found))).rowcount


class absent_last(FunctionElement[Any]):
    """A column to order by, rising, with its NULLs at the end."""

    inherit_cache = True
    name = "absent_last"


@compiles(absent_last)
def _absent_last(element: absent_last, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} NULLS LAST"


@compiles(absent_last, *MYSQL)
def _absent_last_mysql(element: absent_last, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    return f"{column} IS NULL, {column}"


class is_among(FunctionElement[bool]):
    """True where a column's value is one that a subquery finds, each found by the column's index.

    PostgreSQL takes `IN (SELECT ...)` for a join, and as long as it knows too little of the table reads it whole.
    Not for MariaDB and MySQL, which know no LIMIT there.
    """

    type = Boolean()
    inherit_cache = True
    name = "is_among"


@compiles(is_among)
def _is_among(element: is_among, compiler: SQLCompiler, **options: Any) -> str:
    column, found = element.clauses
    return f"{compiler.process(column, **options)} IN {compiler.process(found, **options)}"


@compiles(is_among, "postgresql")
def _is_among_postgresql(element: is_among, compiler: SQLCompiler, **options: Any) -> str:
    column, found = element.clauses
    return f"{compiler.process(column, **options)} = ANY (ARRAY{compiler.process(found, **options)})"


class total(FunctionElement[int]):
    """The sum of whole numbers, as one; MariaDB's and MySQL's would be a decimal."""

    type = BigInteger()
    inherit_cache = True
    name = "total"


@compiles(total)
def _total(element: total, compiler: SQLCompiler, **options: Any) -> str:
    return f"sum({compiler.process(element.clauses, **options)})"


@compiles(total, *MYSQL)
def _total_mysql(element: total, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(sum({compiler.process(element.clauses, **options)}) AS SIGNED)"


LIMITS: Final = (
    "SET SESSION innodb_lock_wait_timeout = %s"
    " /*M!100300 , max_statement_time = %s, idle_transaction_timeout = %s */"  # read by MariaDB only
)
"""What a transaction may take of seconds on MariaDB and MySQL; it stays when the transaction has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """When a statement is sent, and what is made of its answer, where statements go one by one (MariaDB, MySQL)."""

    if_changed: bool = False
    """Only where the last statement without this condition changed a row; else its answer is empty."""
    is_told: bool = True
    """Its answer is one of those that are returned. A change answers with one row, or none where it changed nothing."""
    may_be_there: bool = False
    """An INSERT of a row that may be there already: then it changes nothing."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement for the driver, with its parameters in the driver's own style; None where it takes none."""

    sql: str
    parameters: Mapping[str, object] | tuple[object, ...] | None = None
    condition: Condition | None = None
