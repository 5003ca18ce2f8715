"""Async I/O: SQL runs in SQLAlchemy's greenlets, async handlers on the loop, blocking apart ones in a thread."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import greenlet_spawn

from .._dialect import Bound, TransactionState, Trouble, is_mysql, is_postgresql, is_sqlite, transaction_state, trouble
from ..errors import StoreUnavailable
from . import asyncpg_driver, mysql, sqlite
from .async_calling import call_async, call_each_async, call_in_thread, in_thread
from .blocking import COMMIT, RELEASE, in_schema, pipelines, unreachable
from .calling import EachInTurn, OwnThread
from .engines import LentConnection, lent_on
from .lending import Lending, lend, refuse_second
from .listening import listening_async
from .protocol import Call, Ran, Rows, Transaction

__all__ = ["AsyncIO"]

T = TypeVar("T")
log = logging.getLogger("projection_guard")
_LONGEST_BUSY_SECONDS: Final = 60.0


class AsyncTransaction:
    """A transaction on an async connection."""

    __slots__ = ("_is_pipelined", "_lent", "_schema", "_state_asked", "connection")

    def __init__(
        self, connection: AsyncConnection, lent: LentConnection, schema: str | None, *, is_pipelined: bool
    ) -> None:
        self.connection = connection
        self._lent = lent
        self._schema = schema
        self._is_pipelined = is_pipelined
        self._state_asked = TransactionState.OPEN

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        known = transaction_state(self._lent)
        return self._state_asked if known is TransactionState.OPEN else known

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements in one round trip, or one after the other."""
        if not self._is_pipelined:
            return await self._in_turn(statements)
        driver: Any = self._lent.connection.driver_connection
        try:
            async with driver.lock:
                return await _exchanged(driver, self._lent.info, statements, begins=True)
        except BaseException:
            if driver.closed or driver.broken:
                await self.connection.invalidate()
            raise

    async def _in_turn(self, statements: Sequence[Bound]) -> list[Rows]:
        if self._is_asyncpg:
            return await self.connection.run_sync(asyncpg_driver.in_turn, statements)
        try:
            return await sqlite.in_turn_async(self._lent, statements)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self.connection.invalidate()))
            raise

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function of the connection."""
        return await self.connection.run_sync(in_schema, self._schema, work)

    async def call(self, call: Call, *event: object) -> None:
        """Call a joined handler; it is cancelled when its time is up."""
        await self._lend(call_async(call, *event, self.connection))

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call a joined handler with each event."""
        await self._lend(call_each_async(call, events, (self.connection,), ran, seconds))

    async def _lend(self, work: Coroutine[Any, Any, None]) -> None:
        self._lent.is_lent = True
        try:
            await work
        finally:
            self._lent.is_lent = False
            if self._is_asyncpg and self._lent.had_error and transaction_state(self._lent) is TransactionState.OPEN:
                self._state_asked = await self.connection.run_sync(asyncpg_driver.state_asked)
        if self._lent.refusal is not None:
            raise self._lent.refusal

    @property
    def _is_asyncpg(self) -> bool:
        return asyncpg_driver.is_asyncpg(self._lent.dialect.driver)

    async def commit(self) -> None:
        """Commit."""
        assert self._lent.in_transaction(), "SQLAlchemy would take this commit for done"
        await self.connection.commit()

    async def release_and_commit(self, statements: Sequence[Bound] = ()) -> None:
        """Release the savepoint, run statements and commit."""
        await self.together([*RELEASE, *statements, *(COMMIT if self._is_pipelined else ())])
        await self.commit()

    async def close(self) -> None:
        """Give the connection back, also when this task is being cancelled: even where there is nothing to undo.

        psycopg lets others run in the middle of the pool's rollback where the loop has been busy.
        """
        await asyncio.shield(asyncio.ensure_future(_close(self.connection)))


class _SqliteTransaction(AsyncTransaction):
    """One of which whom it is lent to can have no second."""

    __slots__ = ()

    async def _lend(self, work: Coroutine[Any, Any, None]) -> None:
        before = lend(Lending(self._lent, asyncio.current_task()))
        try:
            await super()._lend(work)
        finally:
            lend(before)


class _MysqlTransaction(AsyncTransaction):
    """One on MariaDB or MySQL, which end a transaction at a deadlock, and do not say so."""

    __slots__ = ("_is_gone",)

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        return TransactionState.LOST if getattr(self, "_is_gone", False) else super().state

    async def _lend(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await super()._lend(work)
        except Exception as error:
            if trouble(error) is Trouble.REDO:
                self._is_gone = not await greenlet_spawn(mysql.is_back_at_savepoint, self._lent)
            raise

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements one after the other."""
        return await self.connection.run_sync(mysql.in_turn, statements)

    async def close(self) -> None:
        """Give the connection back with the limits it came with, also when this task is being cancelled."""
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        if not self.connection.closed:
            await greenlet_spawn(mysql.give_back, self._lent)
        await _close(self.connection)


async def _to_its_end(connecting: Coroutine[Any, Any, LentConnection]) -> LentConnection:
    """Connect, also while this task is being cancelled: aiosqlite forgets a file that it was about to open then."""
    task = asyncio.ensure_future(connecting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(_close_unwanted(task)))
        raise


async def _close_unwanted(connecting: asyncio.Future[LentConnection]) -> None:
    with suppress(Exception):
        await greenlet_spawn((await connecting).close)


async def _exchanged(driver: Any, info: dict[Any, Any], statements: Sequence[Bound], *, begins: bool) -> list[Rows]:
    """Run statements in one round trip on a connection of psycopg's; hold its lock."""
    from .wire import exchange  # where there is no libpq, SQLite still works

    rows: list[Rows] = await driver.wait(exchange(driver, info, statements, begins=begins))
    return rows


def _is_idle(driver: Any) -> bool:
    """Return whether a connection of psycopg's has no transaction open."""
    return bool(driver.pgconn.transaction_status == 0)


class AsyncIO:
    """Async I/O over an engine."""

    def __init__(self, engine: AsyncEngine, schema: str | None) -> None:
        self._engine = engine
        self._schema = schema
        self._is_sqlite = is_sqlite(engine.dialect)
        self._is_mysql = is_mysql(engine.dialect)
        self._is_asyncpg = asyncpg_driver.is_asyncpg(engine.dialect.driver)
        self._is_pipelined = is_postgresql(engine.dialect) and not self._is_asyncpg and pipelines()
        self._transaction = (
            _SqliteTransaction if self._is_sqlite else _MysqlTransaction if self._is_mysql else AsyncTransaction
        )

    async def begin(self) -> Transaction:
        """Open a transaction."""
        for tries_left in reversed(range(mysql.MOST_BEGINNINGS if self._is_mysql else 1)):
            try:
                return await self._begin()
            except SQLAlchemyError as error:
                if not self._is_mysql:
                    raise
                if not tries_left or trouble(error) is not Trouble.LOST:
                    raise StoreUnavailable(unreachable(self._engine.sync_engine, error)) from error
        raise AssertionError

    async def _begin(self) -> Transaction:
        if self._is_sqlite:
            refuse_second(self._engine.sync_engine)
        connection, lent = await self._connect(self._engine)
        transaction = self._transaction(connection, lent, self._schema, is_pipelined=self._is_pipelined)
        try:
            _ = await connection.begin()
            if self._is_sqlite:
                await self._wait_for_the_writer(transaction, lent)
            if self._is_mysql:
                await connection.run_sync(mysql.begin)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(_close(connection)))
            raise
        return transaction

    async def _connect(self, engine: AsyncEngine) -> tuple[AsyncConnection, LentConnection]:
        try:
            connecting = greenlet_spawn(lent_on, engine.sync_engine)
            lent = await (connecting if self._is_pipelined else _to_its_end(connecting))
            return AsyncConnection(engine, lent), lent
        except Exception as error:
            if not asyncpg_driver.is_of_connecting(error):
                raise
            raise StoreUnavailable(unreachable(engine.sync_engine, error)) from error

    async def _wait_for_the_writer(self, transaction: AsyncTransaction, lent: LentConnection) -> None:
        end = asyncio.get_running_loop().time() + _LONGEST_BUSY_SECONDS
        while True:
            try:
                if not sqlite.is_prepared(lent):
                    await transaction.connection.run_sync(sqlite.prepare)
                await transaction.together(sqlite.BEGIN)
            except SQLAlchemyError as error:
                if trouble(error) is not Trouble.REDO or asyncio.get_running_loop().time() > end:
                    raise StoreUnavailable(unreachable(self._engine.sync_engine, error)) from error
                await asyncio.sleep(0.01)
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
            pooled = await self._engine.raw_connection()
        except SQLAlchemyError as error:
            raise StoreUnavailable(unreachable(self._engine.sync_engine, error)) from error
        driver: Any = pooled.driver_connection
        try:
            async with driver.lock:
                return await _exchanged(driver, pooled.info, statements, begins=False)
        finally:
            if driver.closed:
                await greenlet_spawn(pooled.invalidate)
            if _is_idle(driver):
                await greenlet_spawn(pooled.close)
            else:
                await asyncio.shield(asyncio.ensure_future(greenlet_spawn(pooled.close)))

    async def call(self, call: Call, *event: object) -> None:
        """Call an apart handler: awaited, or in a thread, which is left behind when its time is up."""
        await (call_async(call, *event) if call.is_async else call_in_thread(call, *event))

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call an apart handler with each event: awaited, or all in one thread."""
        if call.is_async:
            await call_each_async(call, events, (), ran, seconds)
        else:
            each = EachInTurn(call, events, (), ran, seconds=seconds)
            await in_thread(call, OwnThread(call, (), run=each.run), each.left_seconds)

    async def ask(self, question: Callable[[], object], *, is_async: bool) -> object:
        """Ask and await, or ask in a thread."""
        if is_async:
            answer = question()
            return await answer if inspect.isawaitable(answer) else answer
        return await asyncio.to_thread(question)

    def listening(self, heard: Callable[[str], object]) -> AbstractAsyncContextManager[None]:
        """Listen in a task. Only PostgreSQL notifies anybody."""
        notifies = is_postgresql(self._engine.dialect)
        return listening_async(self._engine, heard) if notifies else nullcontext()

    def interrupts(self, call: Call) -> bool:
        """Return whether the handler is awaited."""
        return call.is_async

    async def sleep(self, seconds: float) -> None:
        """Wait; the loop goes on."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def _renewing(self, renew: Callable[[], Awaitable[object]], every_seconds: float) -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        handle = loop.call_later(
            every_seconds, lambda: tasks.append(loop.create_task(_renew_for_ever(renew, every_seconds)))
        )
        try:
            yield
        finally:
            handle.cancel()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.gather(*tasks, return_exceptions=True)

    def renewing(
        self, renew: Callable[[], Awaitable[object]], every_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """Renew a lease in a task; none is made for a call that ends before the first renewal is due."""
        return self._renewing(renew, every_seconds)

    def close(self) -> None:
        """Nothing to end: each call has its own task."""

    def forget_threads(self) -> None:
        """Nothing to forget: tasks stay with their loop."""

    async def shielded(self, work: Coroutine[object, None, T]) -> T:
        """Run work to its end, also while this task is being cancelled: it is cancelled after that."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            _ = task.cancelled() or task.exception()  # looked at: whoever was cancelled does not ask for it
            raise

    async def all(self, works: Sequence[Coroutine[object, None, T]]) -> list[T | Exception]:
        """Run works side by side; cancelled, all of them are."""
        if len(works) == 1:
            try:
                return [await works[0]]
            except Exception as error:
                return [error]
        results = await asyncio.gather(*works, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return [result for result in results if not isinstance(result, BaseException) or isinstance(result, Exception)]


async def _renew_for_ever(renew: Callable[[], Awaitable[object]], every_seconds: float) -> None:
    while True:
        try:
            await renew()
        except Exception as error:
            log.warning("a lease could not be renewed: %s", type(error).__name__)
        await asyncio.sleep(every_seconds)


async def _close(connection: AsyncConnection) -> None:
    """Give a connection back. A lost one is thrown away; SQLAlchemy's own bookkeeping may be off by then."""
    try:
        await connection.close()
    except Exception as error:
        log.debug("closing a connection: %s", type(error).__name__)
        try:
            await connection.invalidate()
            await connection.close()
        except Exception as second:
            log.debug("throwing a connection away: %s", type(second).__name__)
