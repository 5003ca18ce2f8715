"""What is in the database under our names: tables, their columns, and which revision somebody recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, String, column, inspect, select, table
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import ObjectKind

from .._dialect import is_mysql
from .._tables import table_names
from ._revisions import PREFIX, VERSION_TABLE, revisions

__all__ = ["HOSTS_VERSION_TABLE", "Found", "look"]

HOSTS_VERSION_TABLE: Final = "alembic_version"
_VERSION: Final = "version_num"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found; nothing here is judged yet."""

    tables: Mapping[str, Mapping[str, bool]]
    """The columns of each of our tables that is there, and whether an INSERT may leave them out."""
    own: frozenset[str]
    """The revisions in our own version table."""
    hosts: frozenset[str]
    """Our revisions in a version table of the host's."""
    host_uses_alembic: bool
    is_broken_off: bool = False
    """Where each statement commits by itself (MariaDB, MySQL): an installation of ours began, and came to no end."""


def look(connection: Connection, schema: str | None) -> Found:
    """Look; four queries on PostgreSQL where all is well."""
    columns = _columns(connection, schema, [*table_names, VERSION_TABLE, HOSTS_VERSION_TABLE])
    tables = {name: columns[name] for name in columns.keys() & table_names}
    own = _recorded(connection, schema, {VERSION_TABLE} & columns.keys())
    hosts = frozenset[str]()
    if revisions().newest not in own:  # a role that may read our tables need not be let into the host's
        hosts = _recorded(connection, schema, {HOSTS_VERSION_TABLE} & columns.keys())
    if tables and not own | hosts:
        hosts = _recorded_under_another_name(connection, schema)
    return Found(
        tables=tables,
        own=own,
        hosts=hosts,
        host_uses_alembic=HOSTS_VERSION_TABLE in columns,
        is_broken_off=is_mysql(connection.dialect) and VERSION_TABLE in columns and not own | hosts,
    )


def _recorded_under_another_name(connection: Connection, schema: str | None) -> frozenset[str]:
    """Look into every table that may be a version table: `version_table=` is the host's to choose."""
    everything = _columns(connection, schema, None)
    return _recorded(connection, schema, {name for name, columns in everything.items() if _VERSION in columns})


def _columns(connection: Connection, schema: str | None, names: list[str] | None) -> dict[str, dict[str, bool]]:
    # views too: one under a name of ours is as much in the way as a table
    reflected = inspect(connection).get_multi_columns(schema=schema, filter_names=names, kind=ObjectKind.ANY)
    return {
        name: {each["name"]: _may_be_left_out(each) for each in columns} for (_, name), columns in reflected.items()
    }


def _may_be_left_out(each: ReflectedColumn) -> bool:
    return each["nullable"] or each["default"] is not None or "identity" in each or "computed" in each


def _recorded(connection: Connection, schema: str | None, names: set[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        version = column(_VERSION, String)
        statement = select(version).select_from(table(name, version, schema=schema))
        found |= {value for value in connection.scalars(statement) if value.startswith(PREFIX)}
    return frozenset(found)
