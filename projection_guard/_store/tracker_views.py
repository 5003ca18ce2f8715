"""Views that show the guard's tables as a tracker's looked: its names, its types, its times without a zone.

For dashboards whose queries rely on them, such as one that joins `event_id` with a column of type uuid. On PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from .tracker import Grant, Theirs, written

__all__ = ["make_views"]

_KEYS: Final = {
    "projection_failures": "id",
    "projection_checkpoints": "projection_name",
    "projection_health_metrics": "projection_name",
}
_CAST: Final = ("UUID", "VARCHAR", "TEXT", "CHAR", "INTEGER", "BIGINT", "SMALLINT", "NUMERIC", "DOUBLE", "REAL", "JSON")


def make_views(
    connection: Connection,
    tables: Mapping[str, Theirs],
    columns: Mapping[str, Mapping[str, str]],
    *,
    into: str,
    ours_in: str | None,
    zone: str,
    grants: Sequence[Grant],
) -> tuple[str, ...]:
    """Make a view for each of their tables in the schema `into`, under its own name, and let the same roles read it."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quote(into)}")
    for name, theirs in tables.items():
        ours = written(connection, Theirs(name=name, schema=ours_in, types={}), name)
        shown = _shown(connection, theirs, columns[name], zone)
        beside = _beside(connection, theirs, columns[name])
        connection.exec_driver_sql(f"CREATE VIEW {quote(into)}.{quote(name)} AS SELECT {shown} FROM {ours} f{beside}")
    for each in grants:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(into)} TO {each.role}")
        if each.privilege == "SELECT":
            what = "SELECT" if each.column is None else f"SELECT ({quote(each.column)})"
            connection.exec_driver_sql(f"GRANT {what} ON {quote(into)}.{quote(each.table)} TO {each.role}")
    return tuple(f"{into}.{name}" for name in tables)


def _shown(connection: Connection, theirs: Theirs, columns: Mapping[str, str], zone: str) -> str:
    """Write their columns in their order: from ours where we have it, else from the table that was set aside."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    of = {their: ours for ours, their in columns.items()}
    has_key = _has_key(theirs, columns)
    shown: list[str] = []
    for name, kind in theirs.types.items():
        extra = f"a.{quote(name)}" if has_key else f"CAST(NULL AS {kind})"
        shown.append(f"{_told(f'f.{quote(of[name])}', kind, zone) if name in of else extra} AS {quote(name)}")
    return ", ".join(shown)


def _told(ours: str, kind: str, zone: str) -> str:
    if kind.startswith("TIMESTAMP"):
        return ours if "WITH TIME ZONE" in kind else f"({ours} AT TIME ZONE '{zone}')"
    return f"CAST({ours} AS {kind})" if kind.startswith(_CAST) and not ours.endswith('."id"') else ours


def _beside(connection: Connection, theirs: Theirs, columns: Mapping[str, str]) -> str:
    """Join the table that was set aside, where a row of ours finds its own there, and it has columns that we lack."""
    if not _has_key(theirs, columns) or not theirs.types.keys() - set(columns.values()):
        return ""
    key = _KEYS[theirs.name]
    their = connection.dialect.identifier_preparer.quote_identifier(columns[key])
    return f" LEFT JOIN {written(connection, theirs, theirs.aside)} a ON a.{their} = f.{key}"


def _has_key(theirs: Theirs, columns: Mapping[str, str]) -> bool:
    key = _KEYS[theirs.name]
    kind = theirs.types.get(columns.get(key, ""), "")
    return kind == "UUID" if key == "id" else kind.startswith(("VARCHAR", "TEXT"))
