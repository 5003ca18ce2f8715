"""The guard's view of an engine: made from a URL or handed in by the host, which keeps its own settings.

A view shares the host's pool. On it, transactions are READ COMMITTED or BEGIN IMMEDIATE (SQLite), and a
handler's attempt to end the guard's transaction is refused.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool, SingletonThreadPool, StaticPool

from .._dialect import MYSQL, TransactionState, is_mysql, is_sqlite, transaction_state
from ..errors import ConfigurationError, ConnectionRefusedToHandler
from . import asyncpg_driver, mysql
from .keeping_alive import keep_alive

__all__ = [
    "SUPPORTED",
    "LentConnection",
    "async_engine_for",
    "async_view",
    "engine_for",
    "lent_on",
    "view",
]

SUPPORTED: Final = "postgresql+psycopg://..., mysql+pymysql://... (MariaDB, MySQL) or sqlite:///..."
_DRIVERS: Final = {
    "postgresql": frozenset({"psycopg", "asyncpg"}),
    "sqlite": frozenset({"pysqlite", "aiosqlite"}),
    **dict.fromkeys(MYSQL, frozenset({"pymysql", "asyncmy", "aiomysql"})),
}
_NOT_BLOCKING: Final = (
    "ProjectionGuard is blocking, and asyncpg is not: use AsyncProjectionGuard, or postgresql+psycopg://..."
)
_PATIENCE_SECONDS: Final = 0.25
_MYSQL_CONNECT: Final[dict[str, Any]] = {"connect_timeout": 10, "charset": "utf8mb4"}
_BOUNDED_AT_LOGIN: Final = frozenset({"pymysql", "asyncmy"})
"""Their `connect_timeout` ends where the link is there, with the server's greeting still to come."""
_POSTGRESQL_CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "prepare_threshold": None,  # behind PgBouncer in transaction mode prepared statements of two clients collide
}


def _url(url: str | URL, *, asynchronous: bool) -> URL:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if isinstance(url, str) else url)
    except (ArgumentError, ValueError):  # theirs may quote the URL, password and all
        raise ConfigurationError(f"The database URL cannot be read; write {SUPPORTED}") from None
    # What is behind the first one is a part of the password, and would be taken for a host, a database or a query.
    is_split_early = isinstance(url, str) and url.count("@") > 1
    if "@" in (parsed.host or "") or (is_split_early and parsed.get_backend_name() != "sqlite"):
        raise ConfigurationError("The database URL has an @ too many: in a name, a password or a query it is %40")
    backend, _, driver = parsed.drivername.partition("+")
    if backend not in _DRIVERS or (driver and driver not in _DRIVERS[backend]):
        raise ConfigurationError(
            f"projection_guard does not work with the database driver {parsed.drivername!r}; use {SUPPORTED}"
        )
    if asyncpg_driver.is_asyncpg(driver):
        if not asynchronous:
            raise ConfigurationError(_NOT_BLOCKING)
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend in MYSQL:
        asked = driver if asynchronous and driver != "pymysql" else ""
        return parsed.set(drivername=f"{backend}+{(asked or 'asyncmy') if asynchronous else 'pymysql'}")
    return parsed.set(drivername="sqlite+aiosqlite" if asynchronous else "sqlite+pysqlite")


def _options(url: URL, *, asynchronous: bool) -> dict[str, Any]:
    if asyncpg_driver.is_asyncpg(url.get_driver_name()):
        return {"connect_args": {k: v for k, v in asyncpg_driver.CONNECT.items() if k not in url.query}}
    if url.get_backend_name() == "postgresql":
        # psycopg reads what the URL itself says, so only what it leaves open is set here
        return {"connect_args": {k: v for k, v in _POSTGRESQL_CONNECT.items() if k not in url.query}}
    if url.get_backend_name() in MYSQL:
        connect = dict(_MYSQL_CONNECT)
        if url.get_driver_name() in _BOUNDED_AT_LOGIN:
            connect["read_timeout"] = int(str(url.query.get("connect_timeout", connect["connect_timeout"])))
        return {"connect_args": {k: v for k, v in connect.items() if k not in url.query}}
    if url.database in (None, "", ":memory:") or "mode=memory" in str(url.query):
        # an in-memory database lives in one connection: share it, one user at a time
        pool = AsyncAdaptedQueuePool if asynchronous else QueuePool
        return {"poolclass": pool, "pool_size": 1, "max_overflow": 0, "connect_args": {"check_same_thread": False}}
    return {}


def engine_for(target: str | URL | Engine, *, asked_by: str = "ProjectionGuard") -> Engine:
    """Return a blocking engine for a URL, or the one given. Raises `ConfigurationError`, which names who asked."""
    if isinstance(target, AsyncEngine):
        raise ConfigurationError(f"{asked_by} takes a URL or an Engine; for an AsyncEngine use Async{asked_by}")
    if isinstance(target, Engine):
        if asyncpg_driver.is_asyncpg(target.dialect.driver):
            raise ConfigurationError(_NOT_BLOCKING)
        return _checked(target)
    if not isinstance(target, (str, URL)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{asked_by} takes a URL or an Engine, not {type(target).__name__}")
    url = _url(target, asynchronous=False)
    try:
        engine = create_engine(url, **_options(url, asynchronous=False))
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(_missing(url)) from error
    except (ArgumentError, ValueError, TypeError):  # theirs quotes the URL, with a password in its query
        raise ConfigurationError(f"The database URL cannot be used; write {SUPPORTED}") from None
    _bound(engine, url)
    return engine


def async_engine_for(target: str | URL | AsyncEngine, *, asked_by: str = "ProjectionGuard") -> AsyncEngine:
    """Return an async engine for a URL, or the one given. Raises `ConfigurationError`, as `engine_for` does."""
    if isinstance(target, Engine):
        raise ConfigurationError(f"Async{asked_by} takes a URL or an AsyncEngine; for an Engine use {asked_by}")
    if isinstance(target, AsyncEngine):
        _checked(target.sync_engine)
        return target
    if not isinstance(target, (str, URL)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"Async{asked_by} takes a URL or an AsyncEngine, not {type(target).__name__}")
    url = _url(target, asynchronous=True)
    try:
        engine = create_async_engine(url, **_options(url, asynchronous=True))
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(_missing(url)) from error
    except (ArgumentError, ValueError, TypeError):  # theirs quotes the URL, with a password in its query
        raise ConfigurationError(f"The database URL cannot be used; write {SUPPORTED}") from None
    _bound(engine.sync_engine, url)
    return engine


def _bound(engine: Engine, url: URL) -> None:
    """Let nobody wait for ever on a dead link, where the driver has no options for that."""
    if is_mysql(engine.dialect) or asyncpg_driver.is_asyncpg(engine.dialect.driver):
        event.listen(engine.pool, "connect", keep_alive)
    if engine.dialect.driver in _BOUNDED_AT_LOGIN and "read_timeout" not in url.query:
        event.listen(engine.pool, "connect", mysql.end_of_login)


def _missing(url: URL) -> str:
    backend = url.get_backend_name()
    if asyncpg_driver.is_asyncpg(url.get_driver_name()):
        extra = "asyncpg"
    else:
        extra = "binary" if backend == "postgresql" else "mysql" if backend in MYSQL else "aiosqlite"
    return f"The driver for {url.drivername} is not installed: pip install 'projection-guard[{extra}]'"


def _one_at_a_time(engine: Engine) -> type[QueuePool]:
    return AsyncAdaptedQueuePool if engine.dialect.is_async else QueuePool


def _checked(engine: Engine) -> Engine:
    drivers = _DRIVERS.get(engine.dialect.name)
    if drivers is None or engine.dialect.driver not in (*drivers, "psycopg_async"):
        named = f"{engine.dialect.name}+{engine.dialect.driver}"
        raise ConfigurationError(f"projection_guard does not work with the database driver {named!r}; use {SUPPORTED}")
    if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
        raise ConfigurationError(
            f"A {type(engine.pool).__name__} has no connection for each transaction (SQLAlchemy takes it "
            "for an in-memory database): give the guard the URL sqlite://, or make the engine with "
            f"poolclass={_one_at_a_time(engine).__name__}, pool_size=1, max_overflow=0, "
            "connect_args={'check_same_thread': False}"
        )
    return engine


class LentConnection(Connection):
    """A connection that can be lent to a handler: meanwhile nobody ends its transaction, an ORM session neither.

    Events of the engine would do as well, at an eighth of what a delivery costs: an engine that has any listener runs
    through all of its hooks on each statement.
    """

    is_lent = False
    had_error = False
    """Whether a statement has failed. asyncpg does not tell that a transaction is of no use any more."""
    refusal: ConnectionRefusedToHandler | None = None
    """What the handler was refused; it may have swallowed that. SQLAlchemy takes the transaction for ended then."""

    def commit(self) -> None:
        """Commit; refused to a handler."""
        self._refuse_commit()
        super().commit()

    def rollback(self) -> None:
        """Roll back; refused to a handler."""
        self._refuse_rollback()
        super().rollback()

    def close(self) -> None:
        """Give the connection back; refused to a handler. What is open is rolled back, whatever SQLAlchemy thinks.

        After a refusal, or a COMMIT that failed and left the transaction open, it takes it for ended, and does nothing.
        """
        self._refuse_rollback()
        if transaction_state(self) is not TransactionState.LOST:
            self.connection.rollback()
        super().close()

    def invalidate(self, exception: BaseException | None = None) -> None:
        """Throw the connection away, as SQLAlchemy does when a task is cancelled in a statement.

        SQLite's lock would stay with that statement, closed or not, until somebody collects it: it is undone before.
        So would MariaDB's and MySQL's until the statement ends: their session is ended.
        """
        if not self.closed and not self.invalidated:
            with suppress(Exception):
                if is_sqlite(self.dialect):
                    undo(self)
                elif is_mysql(self.dialect) and not isinstance(exception, Exception):
                    mysql.kill(self)
        super().invalidate(exception)

    def _handle_dbapi_exception(self, *told: Any, **more: Any) -> NoReturn:
        self.had_error = True
        super()._handle_dbapi_exception(*told, **more)

    def _commit_impl(self) -> None:
        self._refuse_commit()
        super()._commit_impl()

    def _rollback_impl(self) -> None:
        self._refuse_rollback()
        super()._rollback_impl()

    def _refuse_commit(self) -> None:
        if self.is_lent:
            self.refusal = ConnectionRefusedToHandler(
                "A handler must not commit the guard's transaction: its writes are committed together with the record "
                "that the event was applied. Leave the commit out; for steps of your own use connection.begin_nested()"
            )
            raise self.refusal

    def _refuse_rollback(self) -> None:
        if self.is_lent and not self.invalidated:
            self.refusal = ConnectionRefusedToHandler(
                "A handler must not roll back or close the guard's connection. Raise an exception and everything it "
                "wrote is undone; for steps of your own use connection.begin_nested()"
            )
            raise self.refusal


_COMMITS_BY_ITSELF: Final = re.compile(
    r"(?:\s+|/\*(?!!|M!).*?\*/|(?:--\s|\#)[^\n]*\n)*(?!(?:CREATE|DROP)\s+TEMPORARY\b)"
    r"(ALTER|ANALYZE|CREATE|DROP|FLUSH|GRANT|LOCK|OPTIMIZE|RENAME|REPAIR|REVOKE|TRUNCATE|UNLOCK)\b",
    re.IGNORECASE | re.DOTALL,
)


class LentOnMysql(LentConnection):
    """One on MariaDB or MySQL, where a statement that changes the schema commits what was done before it."""

    def _execute_context(self, dialect: Dialect, constructor: Any, statement: Any, *more: Any, **options: Any) -> Any:
        if self.is_lent and (found := _COMMITS_BY_ITSELF.match(str(statement))):
            self.refusal = ConnectionRefusedToHandler(
                f"A handler must not {found[1].upper()} on the guard's connection: on MariaDB and MySQL that commits "
                "its transaction half done. Do it before, on a connection of your own; TEMPORARY tables may be made "
                "and dropped"
            )
            raise self.refusal
        return super()._execute_context(dialect, constructor, statement, *more, **options)


def lent_on(engine: Engine) -> LentConnection:
    """Take a connection that can be lent to a handler."""
    return LentOnMysql(engine) if is_mysql(engine.dialect) else LentConnection(engine)


def undo(connection: Connection) -> None:
    """Roll back on SQLite, whatever the driver is at."""
    run_async: Any = getattr(connection.connection.dbapi_connection, "run_async", None)
    if run_async is None:
        connection.connection.rollback()
    else:
        run_async(_undone)


async def _undone(driver: Any) -> None:
    """Roll back after the statement that aiosqlite's thread is at; end that one if it takes long.

    Not at once: as long as any statement is half done, SQLite would take the rollback itself for interrupted.
    """
    rollback = asyncio.ensure_future(driver.rollback())
    done, _ = await asyncio.wait([rollback], timeout=_PATIENCE_SECONDS)
    if not done:
        await driver.interrupt()
    await rollback


def view(engine: Engine) -> Engine:
    """Return the guard's view of an engine: an error's text names a statement, never an event's payload."""
    guarded = engine.execution_options(projection_guard=True)
    guarded.hide_parameters = True
    return guarded


def async_view(engine: AsyncEngine) -> AsyncEngine:
    """Return the guard's view of an async engine."""
    options: dict[str, object] = {"projection_guard": True}
    if asyncpg_driver.is_asyncpg(engine.dialect.driver):  # psycopg is told so with BEGIN
        options["isolation_level"] = "READ COMMITTED"
    guarded = engine.execution_options(**options)  # in one call: SQLAlchemy 2.0 does not take a level after others
    guarded.sync_engine.hide_parameters = True
    return guarded
