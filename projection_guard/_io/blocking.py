"""Blocking I/O: the coroutines here never suspend."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from .._dialect import Bound, TransactionState, Trouble, is_mysql, is_postgresql, is_sqlite, transaction_state, trouble
from .._wording import words_of
from ..errors import ConfigurationError, HandlerTimeout, StoreUnavailable
from . import forking, mysql, sqlite
from .calling import LeftBehind, call_each_now, call_now
from .engines import LentConnection, lent_on
from .heartbeats import Heartbeats
from .lending import Lending, lend, refuse_second
from .listening import listening
from .protocol import Call, Ran, Rows, Transaction, drive

__all__ = ["BlockingIO"]

T = TypeVar("T")
log = logging.getLogger("projection_guard")
_LONGEST_BUSY_SECONDS: Final = 60.0
_LONGEST_CANCEL_SECONDS: Final = 5.0
_DISTURBING: Final = ("schema_translate_map", "stream_results", "yield_per")
_PLACES: Final = ("host", "port", "dbname")
RELEASE: Final = (Bound("RELEASE SAVEPOINT projection_guard"),)
COMMIT: Final = (Bound("COMMIT"),)


class BlockingTransaction:
    """A transaction on a blocking connection."""

    __slots__ = ("_is_pipelined", "_schema", "connection")

    def __init__(self, connection: LentConnection, schema: str | None, *, is_pipelined: bool) -> None:
        self.connection = connection
        self._schema = schema
        self._is_pipelined = is_pipelined

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        return transaction_state(self.connection)

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements in one round trip, or one after the other."""
        if not self._is_pipelined:
            return sqlite.in_turn(self.connection, statements)
        driver: Any = self.connection.connection.driver_connection
        try:
            with driver.lock:
                return exchanged(driver, self.connection.info, statements, begins=True)
        except BaseException:
            if driver.closed or driver.broken:
                self.connection.invalidate()
            raise

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function of the connection."""
        return in_schema(self.connection, self._schema, work)

    async def call(self, call: Call, *event: object) -> None:
        """Call a joined handler; one that is left behind has its transaction cut."""
        self._lend(lambda: call_now(call, *event, self.connection))

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call a joined handler with each event, all on one thread."""
        self._lend(lambda: call_each_now(call, events, (self.connection,), ran, seconds=seconds))

    def _lend(self, work: Callable[[], None]) -> None:
        self.connection.is_lent = True
        try:
            work()
        except LeftBehind as late:
            self.connection.is_lent = False
            cut(self.connection)
            raise HandlerTimeout(str(late)) from None
        except Exception:
            raise
        except BaseException:  # this thread was interrupted, the handler's may go on
            self.connection.is_lent = False
            cut(self.connection)
            raise
        finally:
            self.connection.is_lent = False
        if self.connection.refusal is not None:
            raise self.connection.refusal

    async def commit(self) -> None:
        """Commit."""
        assert self.connection.in_transaction(), "SQLAlchemy would take this commit for done"
        self.connection.commit()

    async def release_and_commit(self, statements: Sequence[Bound] = ()) -> None:
        """Release the savepoint, run statements and commit."""
        await self.together([*RELEASE, *statements, *(COMMIT if self._is_pipelined else ())])
        await self.commit()

    async def close(self) -> None:
        """Give the connection back; what was not committed is rolled back."""
        close(self.connection)


class _SqliteTransaction(BlockingTransaction):
    """One that no fork may fall into. Whom it is lent to can have no second one."""

    __slots__ = ()

    def _lend(self, work: Callable[[], None]) -> None:
        before = lend(Lending(self.connection, None))
        try:
            super()._lend(work)
        finally:
            lend(before)

    async def close(self) -> None:
        """Give the connection back, and let forks go on."""
        try:
            close(self.connection)
        finally:
            forking.leave()


class _MysqlTransaction(BlockingTransaction):
    """One on MariaDB or MySQL, which end a transaction at a deadlock, and do not say so."""

    __slots__ = ("_is_gone",)

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        return TransactionState.LOST if getattr(self, "_is_gone", False) else super().state

    def _lend(self, work: Callable[[], None]) -> None:
        try:
            super()._lend(work)
        except Exception as error:
            if trouble(error) is Trouble.REDO:
                self._is_gone = not mysql.is_back_at_savepoint(self.connection)
            raise

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements one after the other."""
        return mysql.in_turn(self.connection, statements)

    async def close(self) -> None:
        """Give the connection back with the limits it came with."""
        mysql.give_back(self.connection)
        close(self.connection)


class BlockingIO:
    """Blocking I/O over an engine."""

    def __init__(self, engine: Engine, schema: str | None) -> None:
        self._engine = engine
        self._schema = schema
        self._is_sqlite = is_sqlite(engine.dialect)
        self._is_mysql = is_mysql(engine.dialect)
        self._is_pipelined = is_postgresql(engine.dialect) and pipelines()
        self._heartbeats = Heartbeats()

    async def begin(self) -> Transaction:
        """Open a transaction."""
        if self._is_sqlite:
            return self._begin_on_sqlite()
        if self._is_mysql:
            return self._begin_on_mysql()
        connection = self._connect(self._engine)
        try:
            connection.begin()
        except BaseException:
            close(connection)
            raise
        return BlockingTransaction(connection, self._schema, is_pipelined=self._is_pipelined)

    def _begin_on_mysql(self) -> Transaction:
        for tries_left in reversed(range(mysql.MOST_BEGINNINGS)):
            connection = self._connect(self._engine)
            try:
                connection.begin()
                mysql.begin(connection)
            except BaseException as error:
                close(connection)
                if not isinstance(error, SQLAlchemyError):
                    raise
                if not tries_left or trouble(error) is not Trouble.LOST:
                    raise StoreUnavailable(unreachable(self._engine, error)) from error
            else:
                return _MysqlTransaction(connection, self._schema, is_pipelined=False)
        raise AssertionError

    def _begin_on_sqlite(self) -> Transaction:
        refuse_second(self._engine)
        forking.enter()
        try:
            connection = self._connect(self._engine)
            try:
                connection.begin()
                self._wait_for_the_writer(connection)
            except BaseException:
                close(connection)
                raise
        except BaseException:
            forking.leave()
            raise
        return _SqliteTransaction(connection, self._schema, is_pipelined=False)

    def _connect(self, engine: Engine) -> LentConnection:
        try:
            return lent_on(engine)
        except SQLAlchemyError as error:
            raise StoreUnavailable(unreachable(engine, error)) from error

    def _wait_for_the_writer(self, connection: Connection) -> None:
        end = time.monotonic() + _LONGEST_BUSY_SECONDS
        while True:
            try:
                if not sqlite.is_prepared(connection):
                    sqlite.prepare(connection)
                sqlite.in_turn(connection, sqlite.BEGIN)
            except SQLAlchemyError as error:
                if trouble(error) is not Trouble.REDO or time.monotonic() > end:
                    raise StoreUnavailable(unreachable(self._engine, error)) from error
                time.sleep(0.01)
            else:
                return

    async def once(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements as one transaction."""
        if not self._is_pipelined:
            transaction = await self.begin()
            try:
                results = await transaction.together(statements)
                await transaction.commit()
            finally:
                await transaction.close()
            return results
        try:
            pooled = self._engine.raw_connection()
        except SQLAlchemyError as error:
            raise StoreUnavailable(unreachable(self._engine, error)) from error
        driver: Any = pooled.driver_connection
        try:
            with driver.lock:
                return exchanged(driver, pooled.info, statements, begins=False)
        finally:
            if driver.closed:
                pooled.invalidate()
            pooled.close()

    async def call(self, call: Call, *event: object) -> None:
        """Call an apart handler."""
        try:
            call_now(call, *event)
        except LeftBehind as late:
            raise HandlerTimeout(str(late), is_left_running=True) from None

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call an apart handler with each event, all on one thread."""
        try:
            call_each_now(call, events, (), ran, seconds=seconds)
        except LeftBehind as late:
            raise HandlerTimeout(str(late), is_left_running=True) from None

    async def ask(self, question: Callable[[], object], *, is_async: bool) -> object:
        """Ask on this thread."""
        del is_async
        return question()

    def listening(self, heard: Callable[[str], object]) -> AbstractAsyncContextManager[None]:
        """Listen in a thread. Only PostgreSQL notifies anybody."""
        return listening(self._engine, heard) if self._is_pipelined else nullcontext()

    def interrupts(self, call: Call) -> bool:
        """Return whether it runs on the thread that is interrupted."""
        return not call.abandonable

    async def sleep(self, seconds: float) -> None:
        """Wait, with this thread."""
        time.sleep(seconds)

    def renewing(
        self, renew: Callable[[], Awaitable[object]], every_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """Let one background thread renew all leases of this guard's calls."""
        return self._heartbeats.during(lambda: drive(_as_coroutine(renew)), every_seconds)

    def close(self) -> None:
        """End the thread that renews leases."""
        self._heartbeats.stop()

    def forget_threads(self) -> None:
        """In a child of fork: the thread that renews leases is the parent's."""
        self._heartbeats = Heartbeats()

    async def shielded(self, work: Coroutine[object, None, T]) -> T:
        """Run work to its end: a thread cannot be cancelled."""
        return await work

    async def all(self, works: Sequence[Coroutine[object, None, T]]) -> list[T | Exception]:
        """Run works one after the other."""
        results: list[T | Exception] = []
        for work in works:
            try:
                results.append(await work)
            except Exception as error:
                results.append(error)
        return results


async def _as_coroutine(renew: Callable[[], Awaitable[object]]) -> object:
    return await renew()


def pipelines() -> bool:
    """Return True: libpq can send several statements at once. Raises `ConfigurationError` for one before 14."""
    import psycopg

    if not psycopg.Pipeline.is_supported():
        raise ConfigurationError(
            "psycopg's libpq is older than 14; upgrade it, or pip install 'projection-guard[binary]', which has its own"
        )
    return True


def exchanged(driver: Any, info: dict[Any, Any], statements: Sequence[Bound], *, begins: bool) -> list[Rows]:
    """Run statements in one round trip on a connection of psycopg's; hold its lock."""
    from .wire import exchange  # where there is no libpq, SQLite still works

    rows: list[Rows] = driver.wait(exchange(driver, info, statements, begins=begins))
    return rows


def in_schema(connection: Connection, schema: str | None, work: Callable[[Connection], T]) -> T:
    """Run a function with the guard's tables found in the guard's schema, whatever options a handler has set.

    A handler sees nothing of that: its own options are those it set.
    """
    options = connection.get_execution_options()
    if schema is None and not any(options.get(name) for name in _DISTURBING):
        return work(connection)
    its_own = {name: options.get(name) for name in _DISTURBING}
    ours = {None: schema} if schema is not None else None
    connection.execution_options(schema_translate_map=ours, stream_results=False, yield_per=None)
    try:
        return work(connection)
    finally:
        if not connection.closed:
            connection.execution_options(**its_own)


def cut(connection: Connection) -> None:
    """Break off a transaction that another thread may be using; whatever that thread still tries fails."""
    try:
        driver: Any = connection.connection.driver_connection
        if is_sqlite(connection.dialect):
            driver.interrupt()
            driver.rollback()
        elif is_mysql(connection.dialect):
            pass  # `invalidate` ends its session
        else:
            driver.cancel_safe(timeout=_LONGEST_CANCEL_SECONDS)
    except Exception as error:
        log.debug("breaking off a handler's statement: %s", type(error).__name__)
    finally:
        _throw_away(connection)


def _throw_away(connection: Connection) -> None:
    try:
        connection.invalidate()
    except Exception as error:
        log.debug("throwing a connection away: %s", type(error).__name__)


def close(connection: Connection) -> None:
    """Give a connection back. A lost one is thrown away; SQLAlchemy's own bookkeeping may be off by then."""
    try:
        connection.close()
    except Exception as error:
        log.debug("closing a connection: %s", type(error).__name__)
        _throw_away(connection)
        try:
            connection.close()
        except Exception as second:
            log.debug("closing a connection that was thrown away: %s", type(second).__name__)


def unreachable(engine: Engine, error: BaseException) -> str:
    """Say which database is out of reach, without its password, and what was heard of it."""
    url = engine.url  # of its query only what names a place is told: a password may stand there too
    told = url.set(query={name: url.query[name] for name in _PLACES if name in url.query})
    where = told.render_as_string(hide_password=True)
    heard = (words_of(error).splitlines() or [type(error).__name__])[0]
    if password := str(url.password or ""):  # SQLAlchemy also takes what only becomes one by str()
        heard = heard.replace(password, "***")
    return (
        f"The guard's database {where} cannot be reached or is busy; begin again, or deliver the event again, once it "
        f"is back ({heard})"
    )
