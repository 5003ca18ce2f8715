"""What somebody who looks for trouble asks of the database itself: its version, its rights, what stands between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text

from .._dialect import is_mysql, is_sqlite, utc_now
from .._tables import ProjectionAuditEntry, table_names

__all__ = ["Server", "asked"]

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_APPEND = ("SELECT", "INSERT")
_MAY = text("SELECT has_table_privilege(CAST(:relation AS regclass), CAST(:privilege AS text))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the database says of itself. `lacks` names the rights that the role does not have, by table.

    `is_pooled`: the process that answers is not the one that took the connection; None where nobody can tell.
    `journal_mode` is SQLite's.
    """

    product: str
    version: str
    now: datetime
    role: str | None
    is_read_only: bool
    lacks: Mapping[str, tuple[str, ...]]
    is_pooled: bool | None
    journal_mode: str | None


def asked(connection: Connection, schema: str | None) -> Server:
    """Ask the database."""
    if is_mysql(connection.dialect):
        version = _value(connection, "SELECT VERSION()")
        return Server(
            product="MariaDB" if "mariadb" in version.lower() else "MySQL",
            version=version,
            now=connection.execute(select(utc_now())).scalar_one(),
            role=_value(connection, "SELECT CURRENT_USER()"),
            is_read_only=_value(connection, "SELECT @@GLOBAL.read_only") != "0",
            lacks={},
            is_pooled=None,
            journal_mode=None,
        )
    if is_sqlite(connection.dialect):
        return Server(
            product="SQLite",
            version=_value(connection, "SELECT sqlite_version()"),
            now=connection.execute(select(utc_now())).scalar_one(),
            role=None,
            is_read_only=bool(connection.exec_driver_sql("PRAGMA query_only").scalar()),
            lacks={},
            is_pooled=None,
            journal_mode=_value(connection, "PRAGMA journal_mode"),
        )
    return Server(
        product="PostgreSQL",
        version=_value(connection, "SHOW server_version"),
        now=connection.execute(select(utc_now())).scalar_one(),
        role=_value(connection, "SELECT current_user"),
        is_read_only=_value(connection, "SHOW transaction_read_only") == "on",
        lacks=_lacks(connection, schema),
        is_pooled=_is_pooled(connection),
        journal_mode=None,
    )


def _value(connection: Connection, sql: str) -> str:
    return str(connection.exec_driver_sql(sql).scalar_one())


def _lacks(connection: Connection, schema: str | None) -> dict[str, tuple[str, ...]]:
    prefix = f'"{schema}".' if schema else ""
    lacking: dict[str, tuple[str, ...]] = {}
    for name in sorted(table_names):
        wanted = _APPEND if name == ProjectionAuditEntry.__tablename__ else _ALL
        missing = tuple(
            each
            for each in wanted
            if not connection.execute(_MAY, {"relation": prefix + name, "privilege": each}).scalar_one()
        )
        if missing:
            lacking[name] = missing
    return lacking


def _is_pooled(connection: Connection) -> bool | None:
    driver: Any = connection.connection.driver_connection
    told = getattr(getattr(driver, "pgconn", None), "backend_pid", None)
    if told is None:
        return None
    return bool(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != told)
