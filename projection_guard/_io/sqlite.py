"""SQLite past SQLAlchemy's cursors: the hot path's statements go straight to the driver, as they do on PostgreSQL.

A cursor of SQLAlchemy's costs as much as a statement does in SQLite, and with aiosqlite four trips to its thread
instead of one. Errors are SQLAlchemy's all the same, so that nobody above has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .._dialect import Bound
from .protocol import Rows

__all__ = ["BEGIN", "in_turn", "in_turn_async", "is_prepared", "prepare"]

BEGIN: Final = (Bound("BEGIN IMMEDIATE"),)
"""A writing transaction: a deferred one that reads first cannot wait for its lock later."""
_PREPARED: Final = "projection_guard.prepared"
_BUSY_MILLISECONDS: Final = 10_000


def in_turn(connection: Connection, statements: Sequence[Bound]) -> list[Rows]:
    """Run statements one after the other; return each one's rows."""
    driver: Any = connection.connection.driver_connection
    results: list[Rows] = []
    for statement in statements:
        try:
            results.append(driver.execute(statement.sql, statement.parameters or ()).fetchall())
        except Exception as error:
            raise _translated(connection, statement, error) from error
    return results


async def in_turn_async(connection: Connection, statements: Sequence[Bound]) -> list[Rows]:
    """Do the same with aiosqlite. Cancelled, the statement under way goes on in its thread: undo it."""
    driver: Any = connection.connection.driver_connection
    results: list[Rows] = []
    for statement in statements:
        try:
            results.append(await driver.execute_fetchall(statement.sql, statement.parameters or ()))
        except Exception as error:
            raise _translated(connection, statement, error) from error
    return results


def _translated(connection: Connection, statement: Bound, error: Exception) -> Exception:
    """Say it as SQLAlchemy would; aiosqlite says ValueError of a connection that is closed."""
    dbapi: Any = connection.dialect.dbapi
    if isinstance(error, ValueError):
        error = dbapi.OperationalError(str(error))
    if not isinstance(error, dbapi.Error):
        return error
    wrapped: Exception = DBAPIError.instance(statement.sql, None, error, dbapi.Error, hide_parameters=True)
    return wrapped


def is_prepared(connection: Connection) -> bool:
    """Return whether `BEGIN` is all that is needed now."""
    driver: Any = connection.connection.driver_connection
    try:
        return _PREPARED in connection.info and not driver.in_transaction
    except Exception as error:  # it was closed behind our back
        raise _translated(connection, BEGIN[0], error) from error


def prepare(connection: Connection) -> None:
    """Set up a connection that is new here, and end a transaction that a host's own `begin` hook may have opened."""
    if _PREPARED not in connection.info:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() not in ("wal", "memory"):
            _end_stray_transaction(connection)
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.info[_PREPARED] = True
    _end_stray_transaction(connection)


def _end_stray_transaction(connection: Connection) -> None:
    """End the deferred transaction that a host's own `begin` hook may have opened; nothing was written in it."""
    driver = connection.connection.driver_connection
    if getattr(driver, "in_transaction", False):
        connection.exec_driver_sql("ROLLBACK")
