"""What is different where SQLAlchemy's driver is asyncpg: one statement after the other, and values of the exact type.

asyncpg tells no transaction that has failed from one that is open, so a transaction is asked after a handler that has
seen an error of the database; and it keeps prepared statements, which engines that the guard makes leave unnamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.util import await_only

from .._dialect import Bound, TransactionState
from .protocol import Rows

__all__ = ["CONNECT", "in_turn", "is_asyncpg", "is_of_connecting", "notified", "state_asked"]

CONNECT: Final[dict[str, Any]] = {
    "timeout": 10,
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",  # nobody else's behind a pooler, and nothing is left on its servers
}
"""How engines that the guard makes connect: with nothing that has to stay on one connection to the server."""
_TEXT: Final = frozenset({"text", "varchar", "bpchar", "name"})
_INTEGER: Final = frozenset({"int2", "int4", "int8"})
Fit = Callable[[Any], object]
_fits: dict[str, tuple[Fit | None, ...]] = {}


def is_asyncpg(driver_name: str) -> bool:
    """Return whether a dialect's driver is asyncpg."""
    return driver_name == "asyncpg"


def is_of_connecting(error: BaseException) -> bool:
    """Return whether an error says that no connection came about.

    SQLAlchemy leaves what the network says to asyncpg as it is; before 2.1, what the server says, too.
    """
    return isinstance(error, (SQLAlchemyError, OSError)) or type(error).__module__.startswith("asyncpg.")


def in_turn(connection: Connection, statements: Sequence[Bound]) -> list[Rows]:
    """Run statements one after the other, in SQLAlchemy's greenlet; return each one's rows."""
    rows: list[Rows] = []
    for statement in statements:
        result = connection.exec_driver_sql(statement.sql, _fitting(connection, statement))
        rows.append([tuple(row) for row in result] if result.returns_rows else [])
    return rows


def _fitting(connection: Connection, statement: Bound) -> tuple[object, ...]:
    """Return the values as the statement's parameters want them: the hot path's are text for libpq, whatever they are.

    What a statement wants is asked once in a process.
    """
    values = tuple(statement.parameters or ())
    if not values:
        return ()
    fits = _fits.get(statement.sql)
    if fits is None:
        connection.exec_driver_sql("SELECT 1")  # where the connection is dead, SQLAlchemy says so, and throws it away
        driver: Any = connection.connection.driver_connection
        prepared = await_only(driver.prepare(statement.sql, name=""))
        fits = _fits[statement.sql] = tuple(_fit_of(each.name) for each in prepared.get_parameters())
    return tuple(value if fit is None or value is None else fit(value) for fit, value in zip(fits, values, strict=True))


def _fit_of(kind: str) -> Fit | None:
    if kind in _TEXT:
        return str
    return int if kind in _INTEGER else float if kind == "float8" else None


def state_asked(connection: Connection) -> TransactionState:
    """Ask where a transaction stands that may have failed."""
    try:
        connection.exec_driver_sql("SELECT 1")
    except DBAPIError as error:
        is_aborted = getattr(error.orig, "sqlstate", None) == "25P02" and not error.connection_invalidated
        return TransactionState.ABORTED if is_aborted else TransactionState.LOST
    return TransactionState.OPEN


async def notified(driver: Any, channel: str) -> AsyncGenerator[str]:
    """Tell what is notified on a connection of one's own, until it is lost; close it in the end."""
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(_: object, __: int, ___: str, payload: str) -> None:
        heard.put_nowait(payload)

    def end(_: object) -> None:
        heard.put_nowait(None)

    try:
        driver.add_termination_listener(end)
        await driver.add_listener(channel, hear)
        while (payload := await heard.get()) is not None:
            yield payload
    finally:
        with suppress(Exception):
            await asyncio.shield(asyncio.ensure_future(driver.close(timeout=5)))
