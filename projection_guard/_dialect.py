"""Everything that differs between PostgreSQL and SQLite: column types, SQL functions, statements, error codes.

The rest of the package never asks which database it talks to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import BigInteger, Connection, DateTime, Dialect, Float, Integer, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from ._policy import chained, is_lost_connection

__all__ = [
    "BigIdentity",
    "Bound",
    "Insert",
    "PerDialect",
    "TransactionState",
    "Trouble",
    "UtcDateTime",
    "is_no_savepoint",
    "is_refusal",
    "later",
    "moved",
    "seconds_between",
    "statement_start",
    "this_minute",
    "transaction_state",
    "trouble",
    "utc_now",
]

S = TypeVar("S")

BigIdentity: Final = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit key that the database counts up; SQLite does so only for a column declared INTEGER."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, whatever the session's, the server's or the process's time zone is."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; SQLite, which has no zones, stores it bare."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored; make it aware")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):
    """The database's clock, at the moment the statement reaches it (not at the transaction's start)."""

    type = UtcDateTime()
    inherit_cache = True
    name = "utc_now"


class statement_start(FunctionElement[datetime]):
    """The database's clock when the statement began, for comparisons: it is stable, so an index can be searched by it.

    Where a statement waits for a lock it is a little old: a lease then counts as held, an event as not yet due.
    """

    type = UtcDateTime()
    inherit_cache = True
    name = "statement_start"


class this_minute(FunctionElement[int]):
    """The minutes from 1970-01-01 UTC to when the statement began, by the database's clock."""

    type = BigInteger()
    inherit_cache = True
    name = "this_minute"


class later(FunctionElement[datetime]):
    """The database's clock plus a number of seconds; `later(bindparam("delay"))`. NULL in, NULL out."""

    type = UtcDateTime()
    inherit_cache = True
    name = "later"


class moved(FunctionElement[datetime]):
    """A stored time plus a number of seconds: `moved(column, literal(-60.0))`. NULL stays NULL."""

    type = UtcDateTime()
    inherit_cache = True
    name = "moved"


class seconds_between(FunctionElement[float]):
    """Seconds from the first time to the second: `seconds_between(earlier, later)`."""

    type = Float()
    inherit_cache = True
    name = "seconds_between"


_SQLITE_FORMAT: Final = "'%Y-%m-%d %H:%M:%f000'"  # the text form in which SQLAlchemy's DateTime stores and compares


@compiles(utc_now)
def _now_postgresql(element: utc_now, compiler: SQLCompiler, **options: Any) -> str:
    return "clock_timestamp()"


@compiles(statement_start)
def _start_postgresql(element: statement_start, compiler: SQLCompiler, **options: Any) -> str:
    return "statement_timestamp()"


@compiles(statement_start, "sqlite")
@compiles(utc_now, "sqlite")
def _now_sqlite(element: utc_now | statement_start, compiler: SQLCompiler, **options: Any) -> str:
    return f"strftime({_percent(compiler, _SQLITE_FORMAT)}, 'now')"


@compiles(this_minute)
def _minute_postgresql(element: this_minute, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(floor(EXTRACT(EPOCH FROM statement_timestamp()) / 60) AS bigint)"


@compiles(this_minute, "sqlite")
def _minute_sqlite(element: this_minute, compiler: SQLCompiler, **options: Any) -> str:
    seconds = _percent(compiler, "'%s'")
    return f"(CAST(strftime({seconds}, 'now') AS INTEGER) / 60)"


@compiles(later)
def _later_postgresql(element: later, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(later, "sqlite")
def _later_sqlite(element: later, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    shift = _percent(compiler, "'%+.3f seconds'")
    moment = f"strftime({_percent(compiler, _SQLITE_FORMAT)}, 'now', printf({shift}, {seconds}))"
    return f"(CASE WHEN {seconds} IS NULL THEN NULL ELSE {moment} END)"


@compiles(moved)
def _moved_postgresql(element: moved, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({moment} + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(moved, "sqlite")
def _moved_sqlite(element: moved, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(clause, **options) for clause in element.clauses)
    shift = _percent(compiler, "'%+.3f seconds'")
    return f"strftime({_percent(compiler, _SQLITE_FORMAT)}, {moment}, printf({shift}, {seconds}))"


@compiles(seconds_between)
def _seconds_postgresql(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:
    earlier, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({end}) - ({earlier})) AS double precision)"


@compiles(seconds_between, "sqlite")
def _seconds_sqlite(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:
    earlier, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"((julianday({end}) - julianday({earlier})) * 86400.0)"


def _percent(compiler: SQLCompiler, literal: str) -> str:
    """Write a literal's percent signs as the driver needs them: doubled where it formats parameters with them."""
    formats = compiler.dialect.paramstyle in ("format", "pyformat")
    return literal.replace("%", "%%") if formats else literal


Insert = postgresql.Insert | sqlite.Insert


class PerDialect(Generic[S]):
    """A statement that needs `ON CONFLICT`, built once at import for each database."""

    __slots__ = ("_postgresql", "_sqlite")

    def __init__(self, build: Callable[[Callable[[Any], Insert]], S]) -> None:
        self._postgresql = build(postgresql.insert)
        self._sqlite = build(sqlite.insert)

    def of(self, connection: Connection) -> S:
        """Return the statement for the database behind this connection."""
        return self._sqlite if connection.dialect.name == "sqlite" else self._postgresql


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement for the driver, with its parameters in the driver's own style; None where it takes none."""

    sql: str
    parameters: Mapping[str, object] | tuple[object, ...] | None = None


class Trouble(StrEnum):
    """What an error means for a transaction of the guard."""

    REDO = "redo"
    """A deadlock, a serialisation failure, or SQLite's lock: nobody's failure; do the whole transaction again."""
    LOST = "lost"
    """The connection is gone; whether a commit under way succeeded is unknown."""
    WAITED = "waited"
    """A lock was not to be had within the limit."""
    OTHER = "other"


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
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        if state in _REDO_STATES:
            return Trouble.REDO
        if state in _LOST_STATES or state.startswith("08"):
            return Trouble.LOST
        return Trouble.WAITED if state == "55P03" else Trouble.OTHER
    code = getattr(original, "sqlite_errorcode", None)
    return Trouble.REDO if isinstance(code, int) and code & 0xFF in _SQLITE_BUSY else Trouble.OTHER


_REFUSALS: Final = ("0A", "21", "22", "23", "2B", "42", "44", "P0")  # wrong statements, data and constraints
_SQLITE_REFUSALS: Final = frozenset({1, 19, 20, 25})


def is_refusal(error: BaseException) -> bool:
    """Return whether the database is well and did not want a statement: it will not want it next time, either."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in _REFUSALS
    code = getattr(original, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _SQLITE_REFUSALS


def is_no_savepoint(error: BaseException) -> bool:
    """Return whether our savepoint is gone: the transaction in which it was set was ended by somebody."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
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
    if connection.dialect.driver == "asyncpg":  # it does not tell a transaction that has failed from one that is open
        is_open = driver is not None and not driver.is_closed() and driver.is_in_transaction()
        return TransactionState.OPEN if is_open else TransactionState.LOST
    status = int(driver.info.transaction_status) if driver is not None else 4
    return _PSYCOPG_STATES.get(status, TransactionState.LOST)
