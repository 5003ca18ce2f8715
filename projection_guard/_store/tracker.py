"""The tables of a tracker that an application has made by hand, under names that the guard's have: read, set aside.

They are renamed (`projection_failures_before_adopt`) and never written. Everything happens in the caller's transaction;
DDL is part of it on PostgreSQL and on SQLite alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn

from .._tables import metadata

__all__ = [
    "AS_THEY_ARE",
    "Grant",
    "Theirs",
    "found",
    "grant",
    "grants",
    "in_the_way",
    "lock",
    "place_of",
    "rows",
    "set_aside",
    "set_aside_before",
]

_ASIDE: Final = "_before_adopt"
_LONGEST_NAME: Final = 63
_AT_ONCE: Final = 500
AS_THEY_ARE: Final = ("projection_failures", "projection_checkpoints", "projection_health_metrics")
"""The tables that may be a tracker's, in the order in which they are locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """A table of the tracker's, where it stands now. `types` tells each column's type as the database writes it."""

    name: str
    schema: str | None
    types: Mapping[str, str]

    @property
    def aside(self) -> str:
        """What it is called once it is set aside."""
        return f"{self.name}{_ASIDE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Somebody may do something with a table of theirs, or with one column of it."""

    table: str
    column: str | None
    privilege: str
    role: str
    """As it is written in SQL: quoted, or PUBLIC."""


def place_of(connection: Connection, schema: str | None) -> str | None:
    """Return the schema by its name, also where it is the one that is looked at by itself."""
    if schema is not None or connection.dialect.name == "sqlite":
        return schema
    current: str | None = connection.scalar(text("SELECT current_schema()"))
    return current


def found(connection: Connection, schema: str | None) -> dict[str, Theirs]:
    """Return the tables under these names, in a schema or where the connection looks by itself."""
    reflected = inspect(connection).get_multi_columns(schema=schema, filter_names=list(AS_THEY_ARE))
    tables = {name: columns for (_, name), columns in reflected.items()}
    return {
        name: Theirs(name=name, schema=schema, types=_types(connection, tables[name]))
        for name in AS_THEY_ARE
        if name in tables
    }


def set_aside_before(connection: Connection, schema: str | None) -> tuple[str, ...]:
    """Name the tables that an earlier adoption has set aside."""
    names = [f"{name}{_ASIDE}" for name in AS_THEY_ARE]
    there = inspect(connection).get_multi_columns(schema=schema, filter_names=names)
    return tuple(name for name in names if name in {each for _, each in there})


def _types(connection: Connection, columns: Sequence[ReflectedColumn]) -> dict[str, str]:
    return {each["name"]: each["type"].compile(connection.dialect) for each in columns}


def rows(
    connection: Connection, theirs: Theirs, columns: Mapping[str, str], *, is_aside: bool, only_open: bool = False
) -> Iterator[dict[str, object]]:
    """Read a table's rows by our names for their columns, as the driver gives them, a few hundred at a time."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    asked = ", ".join(f"{quote(their)} AS {quote(ours)}" for ours, their in columns.items())
    sql = f"SELECT {asked} FROM {written(connection, theirs, theirs.aside if is_aside else theirs.name)}"
    if only_open and "resolved_at" in columns:
        sql += f" WHERE {quote(columns['resolved_at'])} IS NULL"
    result = connection.exec_driver_sql(sql, execution_options={"stream_results": True}).mappings()
    for part in result.partitions(_AT_ONCE):
        for row in part:
            yield {ours: row[ours] for ours in columns}


# -- what stands in the way, and who may read


_VIEWS: Final = text(
    "SELECT DISTINCT 'the view ' || CAST(CAST(v.oid AS regclass) AS text) AS what, CAST(d.refobjid AS regclass) AS of "
    "FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = CAST('pg_rewrite' AS regclass) "
    "JOIN pg_class v ON v.oid = r.ev_class WHERE d.refobjid = CAST(:table AS regclass) AND v.oid <> d.refobjid"
)
_KEYS: Final = text(
    "SELECT 'the foreign key ' || quote_ident(conname) || ' of ' || CAST(CAST(conrelid AS regclass) AS text) AS what "
    "FROM pg_constraint WHERE contype = 'f' AND confrelid = CAST(:table AS regclass) AND conrelid <> confrelid"
)
_SQLITE_TEXTS: Final = text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")
_GRANTS: Final = text(
    "SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role, "
    "a.privilege_type AS privilege, a.attname AS column FROM pg_class c, LATERAL ("
    "SELECT CAST(NULL AS text) AS attname, * FROM aclexplode(c.relacl) UNION ALL "
    "SELECT w.attname, e.* FROM pg_attribute w, aclexplode(w.attacl) e WHERE w.attrelid = c.oid AND NOT w.attisdropped"
    ") a WHERE c.oid = CAST(:table AS regclass) AND a.grantee <> c.relowner ORDER BY 1, 2, 3"
)


def in_the_way(connection: Connection, tables: Sequence[Theirs]) -> list[str]:
    """Name what would go on with a table of theirs after it was renamed: views, and foreign keys of other tables."""
    if connection.dialect.name == "sqlite":
        return _in_the_way_on_sqlite(connection, tables)
    there: list[str] = []
    for each in tables:
        where = {"table": written(connection, each, each.name)}
        for statement in (_VIEWS, _KEYS):
            there += [f"{row.what} (of {each.name})" for row in connection.execute(statement, where)]
    return sorted(there)


def _in_the_way_on_sqlite(connection: Connection, tables: Sequence[Theirs]) -> list[str]:
    there: list[str] = []
    for row in connection.execute(_SQLITE_TEXTS).all():
        for each in tables:
            is_named = re.search(rf"\b{each.name}\b", row.sql) is not None
            refers = row.type == "view" or (row.type == "table" and "references" in row.sql.lower())
            if is_named and refers and row.name not in AS_THEY_ARE:
                there.append(f"the {row.type} {row.name} (of {each.name})")
    return sorted(there)


def grants(connection: Connection, tables: Sequence[Theirs]) -> list[Grant]:
    """Return what others than the owner may do with their tables or columns: a dashboard's role may read."""
    if connection.dialect.name == "sqlite":
        return []
    return [
        Grant(table=each.name, column=row.column, privilege=row.privilege, role=row.role)
        for each in tables
        for row in connection.execute(_GRANTS, {"table": written(connection, each, each.name)})
    ]


def grant(
    connection: Connection, given: Sequence[Grant], columns: Mapping[str, Mapping[str, str]], schema: str | None
) -> None:
    """Let them do the same with the guard's tables, and with those columns that it has, too, by its names for them."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for each in given:
        on, what = written(connection, Theirs(name=each.table, schema=schema, types={}), each.table), each.privilege
        if each.column is not None:
            ours = {their: ours for ours, their in columns[each.table].items()}.get(each.column)
            if ours is None:
                continue
            what += f" ({quote(ours)})"
        connection.exec_driver_sql(f"GRANT {what} ON {on} TO {each.role}")


def written(connection: Connection, theirs: Theirs, name: str) -> str:
    """Write a table's name for SQL."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    return quote(name) if theirs.schema is None else f"{quote(theirs.schema)}.{quote(name)}"


# -- set aside


def lock(connection: Connection, tables: Sequence[Theirs], *, seconds: int) -> None:
    """Let nobody read or write their tables until the transaction's end; SQLite has one writer anyway.

    It waits so long for those who use them now, and everybody else waits behind it meanwhile.
    """
    if connection.dialect.name == "sqlite":
        return
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
    named = ", ".join(written(connection, each, each.name) for each in tables)
    connection.exec_driver_sql(f"LOCK TABLE {named} IN ACCESS EXCLUSIVE MODE")


def set_aside(connection: Connection, theirs: Theirs) -> list[str]:
    """Rename a table, and its indexes, whose names the guard's may need; name the indexes that had to be dropped."""
    old, quote = written(connection, theirs, theirs.name), connection.dialect.identifier_preparer.quote_identifier
    indexes = _indexes(connection, theirs)
    connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {quote(theirs.aside)}")
    if connection.dialect.name == "sqlite":  # it cannot rename an index
        ours = {index.name for each in metadata.tables.values() for index in each.indexes}
        dropped = [name for name in indexes if name in ours]
        for name in dropped:
            connection.exec_driver_sql(f"DROP INDEX {quote(name)}")
        return dropped
    for name in indexes:
        to = quote(_renamed(name))
        connection.exec_driver_sql(f"ALTER INDEX {written(connection, theirs, name)} RENAME TO {to}")
    return []


def _indexes(connection: Connection, theirs: Theirs) -> list[str]:
    if connection.dialect.name == "sqlite":
        statement = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = :name"
        return list(connection.scalars(text(statement), {"name": theirs.name}))
    statement = (
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = CAST(:table AS regclass) ORDER BY 1"
    )
    return list(connection.scalars(text(statement), {"table": written(connection, theirs, theirs.name)}))


def _renamed(name: str) -> str:
    if len(name) + len(_ASIDE) <= _LONGEST_NAME:
        return f"{name}{_ASIDE}"
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(_ASIDE) - 9]}_{mark}{_ASIDE}"
