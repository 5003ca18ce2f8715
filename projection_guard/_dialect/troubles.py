"""What an error of the database means for a transaction, and where a transaction stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .._policy import chained, is_lost_connection
from .families import is_mysql

__all__ = [
    "TransactionState",
    "Trouble",
    "is_denied",
    "is_duplicate_key",
    "is_no_savepoint",
    "is_refusal",
    "transaction_state",
    "trouble",
]


class Trouble(StrEnum):
    """What an error means for a transaction of the guard."""

    REDO = "redo"
    """A deadlock, a serialisation failure, or SQLite's lock: nobody's failure; do the whole transaction again."""
    LOST = "lost"
    """The connection is gone; whether a commit under way succeeded is unknown."""
    WAITED = "waited"
    """A lock was not to be had within the limit."""
    OTHER = "other"


_MYSQL_REDO: Final = frozenset({1213, 1020, 1412})  # deadlock; a row has changed; the table's definition has
_MYSQL_WAITED: Final = frozenset({1205, 3572})
# too many connections, refused hosts, a shutdown; killed, gone away, lost, packets out of order, timed out
_MYSQL_LOST: Final = frozenset({1040, 1053, 1077, 1129, 1152, 1159, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
_MYSQL_NO_SAVEPOINT: Final = 1305
_MYSQL_DUPLICATE: Final = 1062
_REDO_STATES: Final = frozenset({"40001", "40P01", "26000"})  # 26000: a prepared statement was deallocated
_LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03", "25P03", "25P04"})
_SQLITE_BUSY: Final = frozenset({5, 6})


def trouble(error: BaseException) -> Trouble:
    """Classify an error by what the database said, wherever in its chain of causes, or in a group, it stands."""
    whole = list(chained(error, into_groups=True))
    for each in whole:
        found = _trouble_of(each)
        if found is not Trouble.OTHER:
            return found
    return Trouble.LOST if any(is_lost_connection(each) for each in whole) else Trouble.OTHER


def _trouble_of(error: BaseException) -> Trouble:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    number = mysql_number(original)
    if number is not None:
        return _trouble_by_number(number)
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        if state in _REDO_STATES:
            return Trouble.REDO
        if state in _LOST_STATES or state.startswith("08"):
            return Trouble.LOST
        return Trouble.WAITED if state == "55P03" else Trouble.OTHER
    code = getattr(original, "sqlite_errorcode", None)
    return Trouble.REDO if isinstance(code, int) and code & 0xFF in _SQLITE_BUSY else Trouble.OTHER


def _trouble_by_number(number: int) -> Trouble:
    if number in _MYSQL_REDO:
        return Trouble.REDO
    if number in _MYSQL_LOST:
        return Trouble.LOST
    return Trouble.WAITED if number in _MYSQL_WAITED else Trouble.OTHER


_MYSQL_DRIVERS: Final = ("pymysql", "asyncmy", "aiomysql")


def mysql_number(error: BaseException) -> int | None:
    """Return the number that MariaDB's and MySQL's drivers put first into an error, None where it is none of theirs."""
    if not type(error).__module__.startswith(_MYSQL_DRIVERS) or not error.args:
        return None
    number = error.args[0]
    return number if isinstance(number, int) else 0


_REFUSALS: Final = ("0A", "21", "22", "23", "2B", "42", "44", "P0")  # wrong statements, data and constraints
_MYSQL_REFUSALS: Final = ("ProgrammingError", "DataError", "IntegrityError", "NotSupportedError")
# rights and names (access denied, no such column or database), no default value, a trigger's SIGNAL
_MYSQL_REFUSED: Final = frozenset({1044, 1045, 1049, 1054, 1142, 1143, 1227, 1290, 1364, 1366, 1370, 1644, 1792, 1836})
_DENIED: Final = "42501"
_MYSQL_DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1370})
_SQLITE_REFUSALS: Final = frozenset({1, 19, 20, 25})


def is_refusal(error: BaseException) -> bool:
    """Return whether the database is well and did not want a statement: it will not want it next time, either."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    number = mysql_number(original)
    if number is not None:
        return type(original).__name__ in _MYSQL_REFUSALS or number in _MYSQL_REFUSED
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in _REFUSALS
    code = getattr(original, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _SQLITE_REFUSALS


def is_denied(error: BaseException) -> bool:
    """Return whether the role may not do this: a matter of grants, not of the statement."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return mysql_number(original) in _MYSQL_DENIED or getattr(original, "sqlstate", None) == _DENIED


def is_duplicate_key(error: DBAPIError) -> bool:
    """Return whether MariaDB or MySQL refused a row because its key is there already."""
    return error.orig is not None and mysql_number(error.orig) == _MYSQL_DUPLICATE


def is_no_savepoint(error: BaseException) -> bool:
    """Return whether our savepoint is gone: the transaction in which it was set was ended by somebody."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if mysql_number(original) == _MYSQL_NO_SAVEPOINT:
        return True
    state = getattr(original, "sqlstate", None)
    return state in ("3B001", "25P01") or (state is None and "no such savepoint" in str(original))


class TransactionState(StrEnum):
    """Where a transaction stands, as the driver knows without asking the server."""

    OPEN = "open"
    ABORTED = "aborted"
    """PostgreSQL: a statement failed; only a rollback (to a savepoint) is possible."""
    LOST = "lost"
    """There is no such transaction any more: the connection is gone, or the database ended it."""


_PSYCOPG_STATES: Final = {1: TransactionState.OPEN, 2: TransactionState.OPEN, 3: TransactionState.ABORTED}


def transaction_state(connection: Connection) -> TransactionState:
    """Return where the connection's transaction stands; no round trip."""
    if connection.closed or connection.invalidated:
        return TransactionState.LOST
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        is_open = bool(getattr(driver, "in_transaction", False))
        return TransactionState.OPEN if is_open else TransactionState.LOST
    if is_mysql(connection.dialect):
        return _state_in_mysql(driver)
    if connection.dialect.driver == "asyncpg":  # it does not tell a transaction that has failed from one that is open
        is_open = driver is not None and not driver.is_closed() and driver.is_in_transaction()
        return TransactionState.OPEN if is_open else TransactionState.LOST
    status = int(driver.info.transaction_status) if driver is not None else 4
    return _PSYCOPG_STATES.get(status, TransactionState.LOST)


_IN_TRANSACTION: Final = 1


def _state_in_mysql(driver: object) -> TransactionState:
    """Return what the server said with its last answer that was no error.

    A deadlock ends a transaction, and no error says so: then the savepoint is missed.
    """
    if driver is None:
        return TransactionState.LOST
    status = getattr(driver, "server_status", None)
    if status is None:  # aiomysql has it one deeper
        status = getattr(getattr(driver, "_result", None), "server_status", 0)
    return TransactionState.OPEN if int(status or 0) & _IN_TRANSACTION else TransactionState.LOST
