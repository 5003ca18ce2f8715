"""MariaDB and MySQL: a transaction's beginning and its limits, statements one by one, an end to what was left behind.

A connection is given back with the limits it came with: they belong to the session there, and the session to the host.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from .._dialect import LIMITS, Bound, Condition, TransactionState, is_duplicate_key, is_mysql, transaction_state
from .protocol import Rows

__all__ = ["MOST_BEGINNINGS", "begin", "end_of_login", "give_back", "in_turn", "is_back_at_savepoint", "kill"]

log = logging.getLogger("projection_guard")
MOST_BEGINNINGS: Final = 25
"""A pool's connections may all be dead, each found so when it is begun with; nothing is done by then."""
_PLAIN: Final = Condition()
_BEGIN: Final = ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION")
_LIMITS_WERE: Final = "projection_guard.limits_were"
_IS_LIMITED: Final = "projection_guard.is_limited"
_COMMITTED_BY_ITSELF: Final = "projection_guard.committed_by_itself"
_ASK_LIMITS: Final = (
    "SELECT @@SESSION.innodb_lock_wait_timeout"
    " /*M!100300 , @@SESSION.max_statement_time, @@SESSION.idle_transaction_timeout */"
)


def end_of_login(dbapi_connection: Any, _: object) -> None:
    """Let a statement take its time: its limits are the server's, and a dead link ends by keepalives."""
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    driver._read_timeout = None


def begin(connection: Connection) -> None:
    """Begin a transaction, READ COMMITTED whatever the host's engine says, on a connection that has none open."""
    driver: Any = connection.connection.driver_connection
    if transaction_state(connection) is TransactionState.OPEN:
        connection.exec_driver_sql("ROLLBACK")  # the host's own `begin` hook may have opened one
    if driver.get_autocommit():
        connection.exec_driver_sql("SET autocommit = 0")  # else what comes after a deadlock is committed at once
        connection.info[_COMMITTED_BY_ITSELF] = True
    for statement in _BEGIN:
        connection.exec_driver_sql(statement)


def in_turn(connection: Connection, statements: Sequence[Bound]) -> list[Rows]:
    """Run statements one after the other, as their conditions say; return the answers that are told."""
    results: list[Rows] = []
    changed = 0
    for statement in statements:
        condition = statement.condition or _PLAIN
        rows: Rows = []
        if changed or not condition.if_changed:
            rows, number = _run(connection, statement, condition)
            if not condition.if_changed:
                changed = number
        if condition.is_told:
            results.append(rows)
    return results


def _run(connection: Connection, statement: Bound, condition: Condition) -> tuple[Rows, int]:
    if statement.sql == LIMITS:
        _remember_limits(connection)
    parameters: Any = statement.parameters or None
    try:
        result = connection.exec_driver_sql(statement.sql, parameters)
    except IntegrityError as error:
        if condition.may_be_there and is_duplicate_key(error):
            return [], 0
        raise
    if result.returns_rows:
        rows = [tuple(row) for row in result]
        return rows, len(rows)
    return ([(result.rowcount,)], result.rowcount) if result.rowcount > 0 else ([], 0)


def _remember_limits(connection: Connection) -> None:
    info = connection.info
    if _LIMITS_WERE not in info:
        row = connection.exec_driver_sql(_ASK_LIMITS).one()
        info[_LIMITS_WERE] = tuple(row) if len(row) == 3 else (row[0], 0, 0)
    info[_IS_LIMITED] = True


def give_back(connection: Connection) -> None:
    """Undo what was not committed, and what was set for it; a connection that does not take that is thrown away."""
    if connection.closed or connection.invalidated:
        return
    info = connection.info
    if _IS_LIMITED not in info and _COMMITTED_BY_ITSELF not in info:
        return
    try:
        pooled = connection.connection
        if transaction_state(connection) is TransactionState.OPEN:
            pooled.rollback()
        cursor = pooled.cursor()
        if info.pop(_IS_LIMITED, False):
            cursor.execute(LIMITS, info[_LIMITS_WERE])
        if info.pop(_COMMITTED_BY_ITSELF, False):
            cursor.execute("SET autocommit = 1")
        cursor.close()
    except Exception as error:
        log.debug("giving a connection back: %s", type(error).__name__)
        with suppress(Exception):
            connection.invalidate()


def is_back_at_savepoint(connection: Connection) -> bool:
    """Return to the savepoint behind the claim; False where it is gone, with the transaction."""
    try:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT projection_guard")
    except Exception as error:
        log.debug("going back to the savepoint: %s", type(error).__name__)
        return False
    return True


def kill(connection: Connection) -> None:
    """End what the server is at for a connection that is about to be thrown away: it would not notice by itself.

    The pool may have no connection left, so one of its kind is made for this.
    """
    if not is_mysql(connection.dialect):
        return
    driver: Any = connection.connection.driver_connection
    number = int(driver.thread_id())
    pool = connection.engine.pool.recreate()
    try:
        fresh = pool.connect()
        cursor = fresh.cursor()
        with suppress(DBAPIError, connection.dialect.loaded_dbapi.Error):
            cursor.execute(f"KILL {number}")
        cursor.close()
        fresh.close()
    finally:
        pool.dispose()
