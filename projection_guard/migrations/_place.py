"""Where the tables go, the lock under which they are changed, and what is said when the database refuses."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from .._dialect import MYSQL, TransactionState, Trouble, is_mysql, is_sqlite, transaction_state, trouble
from ..errors import ConfigurationError, SchemaError, StoreUnavailable

__all__ = ["check_schema_name", "enter", "leave", "refusals_explained", "statements_to_be_in"]

_LOCK: Final = 7_206_116_935_214_561_203  # any number will do, as long as it is ours
_LONGEST_PAUSE_SECONDS: Final = 60  # longer than any between two statements of a migration
_LONGEST_WAIT_SECONDS: Final = 2 * _LONGEST_PAUSE_SECONDS  # so that one who died is outlasted
# The lock's name is the whole server's. MySQL 9 has no MD5.
_MYSQL_LOCK: Final = "CONCAT('projection_guard ', LEFT(SHA2(DATABASE(), 256), 32))"
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def check_schema_name(dialect_name: str, schema: str | None) -> None:
    """Refuse a `schema=` that cannot be one. Raises `ConfigurationError`."""
    if schema is None:
        return
    if dialect_name == "sqlite":
        raise ConfigurationError("schema= is for PostgreSQL; a SQLite database has none")
    if dialect_name in MYSQL:
        raise ConfigurationError(
            "schema= is for PostgreSQL; on MariaDB and MySQL a schema is a database: name the guard's in the URL"
        )
    is_systems = schema.lower().startswith("pg_") or schema.lower() == "information_schema"
    if is_systems or not _IDENTIFIER.fullmatch(schema):
        raise ConfigurationError(
            f"schema={schema!r} is no name for a schema of the guard's own: letters, digits and underscores, at most "
            "63, not beginning with a digit or pg_"
        )


def statements_to_be_in(schema: str | None) -> tuple[str, ...]:
    """Return what makes the schema and has new tables appear in it, until the end of the transaction."""
    if schema is None:
        return ()
    return (f'CREATE SCHEMA IF NOT EXISTS "{schema}"', f'SET LOCAL search_path TO "{schema}"')


def enter(connection: Connection, schema: str | None) -> None:
    """Be the only one who changes our tables until the end of the caller's transaction, which this begins if need be.

    It waits at most two minutes; on PostgreSQL a process that is stopped meanwhile loses its transaction after one.
    """
    if is_mysql(connection.dialect):
        if (
            connection.scalar(text(f"SELECT GET_LOCK({_MYSQL_LOCK}, :seconds)"), {"seconds": _LONGEST_WAIT_SECONDS})
            != 1
        ):
            raise SchemaError(f"Somebody else has been changing the guard's tables for {_LONGEST_WAIT_SECONDS} s")
        return
    if is_sqlite(connection.dialect):
        # the driver itself begins no transaction before DDL, and then a crash would leave half of it
        if transaction_state(connection) is not TransactionState.OPEN:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_LONGEST_WAIT_SECONDS * 1000}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    driver: Any = connection.connection.driver_connection
    if getattr(driver, "autocommit", False):
        connection.exec_driver_sql("BEGIN")
    # above that level the snapshot would be older than the lock, and not show what was done while it was waited for
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_SECONDS}s'")
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_PAUSE_SECONDS}s'")
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    _go_to(connection, schema)


def leave(connection: Connection) -> None:
    """Let others change our tables; only where their lock does not end with the transaction."""
    if is_mysql(connection.dialect) and not connection.closed and not connection.invalidated:
        with suppress(SQLAlchemyError):
            connection.execute(text(f"DO RELEASE_LOCK({_MYSQL_LOCK})"))


def _go_to(connection: Connection, schema: str | None) -> None:
    if schema is None:
        return
    create, use = statements_to_be_in(schema)
    # even IF NOT EXISTS demands the right to create schemas, which a role that only upgrades may not have
    if not connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = :name"), {"name": schema}):
        connection.exec_driver_sql(create)
    connection.exec_driver_sql(use)


@contextmanager
def refusals_explained(what: str) -> Generator[None, None, None]:
    """Raise `SchemaError` with one sentence for what the database refuses, `StoreUnavailable` if it is gone."""
    try:
        yield
    except SQLAlchemyError as error:
        if trouble(error) is Trouble.LOST:
            raise StoreUnavailable(f"{what}: the connection was lost; try again once the database is back") from error
        raise SchemaError(f"{what}: {_said(error)}") from error


def _said(error: SQLAlchemyError) -> str:
    """Return the database's own words without what may follow them: statements, hints, values."""
    words = str(error.orig) if isinstance(error, DBAPIError) else ""
    return words.splitlines()[0] if words else type(error).__name__
