"""The database's clock, and what is reckoned with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from .columns import UtcDateTime
from .families import MYSQL

__all__ = ["later", "moved", "seconds_between", "statement_start", "this_minute", "utc_now"]


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


# MariaDB and MySQL have one clock: it stands still during a statement.
@compiles(statement_start, *MYSQL)
@compiles(utc_now, *MYSQL)
def _now_mysql(element: utc_now | statement_start, compiler: SQLCompiler, **options: Any) -> str:
    return "UTC_TIMESTAMP(6)"


@compiles(this_minute, *MYSQL)
def _minute_mysql(element: this_minute, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(UNIX_TIMESTAMP() DIV 60 AS SIGNED)"


@compiles(later, *MYSQL)
def _later_mysql(element: later, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(UTC_TIMESTAMP(6) + INTERVAL CAST({seconds} * 1000000 AS SIGNED) MICROSECOND)"


@compiles(moved, *MYSQL)
def _moved_mysql(element: moved, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({moment} + INTERVAL CAST({seconds} * 1000000 AS SIGNED) MICROSECOND)"


@compiles(seconds_between, *MYSQL)
def _seconds_mysql(element: seconds_between, compiler: SQLCompiler, **options: Any) -> str:
    earlier, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(TIMESTAMPDIFF(MICROSECOND, {earlier}, {end}) / 1e6)"
