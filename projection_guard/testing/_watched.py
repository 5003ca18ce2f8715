"""A guard's I/O that tells of each step, and breaks there: it stands in for the real one while a test asks for that.

Nothing in the package knows of it, so it costs nothing in production. All work is done by the real I/O behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection

from .._dialect import Bound, TransactionState
from .._io.protocol import IO, Call, Ran, Rows, Transaction
from ._points import Step

__all__ = ["Breaking", "Crash", "WatchedIO"]

T = TypeVar("T")


class Crash(BaseException):
    """The process has died, as far as the guard can tell. No handler of `Exception` catches it."""


class Breaking(Protocol):
    """Passes the points of the flow, and breaks it at one of them."""

    def step(self, step: Step, connection: Callable[[], Connection | None]) -> AbstractContextManager[None]:
        """Pass the points before and after a step; `connection` is asked at a point on which one it is, if on any."""
        ...

    def check_alive(self) -> None:
        """Raise `Crash` once the process counts as dead: it does nothing more."""
        ...


class WatchedTransaction:
    """A transaction that passes points."""

    def __init__(self, real: Transaction, breaking: Breaking) -> None:
        self._real = real
        self._breaking = breaking
        connection = real.connection
        sync = connection.sync_connection if isinstance(connection, AsyncConnection) else connection
        assert isinstance(sync, Connection)
        self.sync = sync
        self._at_cursor: list[AbstractContextManager[None]] = []
        event.listen(sync, "before_cursor_execute", self._before)
        event.listen(sync, "after_cursor_execute", self._after)

    @property
    def connection(self) -> object:
        """The connection that a joined handler is given."""
        return self._real.connection

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        return self._real.state

    def _before(self, *_: Any) -> None:
        step = self._step("statement")
        step.__enter__()
        self._at_cursor.append(step)

    def _after(self, *_: Any) -> None:
        self._at_cursor.pop().__exit__(None, None, None)

    def _step(self, step: Step) -> AbstractContextManager[None]:
        self._breaking.check_alive()
        return self._breaking.step(step, lambda: self.sync)

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements in one round trip."""
        with self._step("statement"):
            return await self._real.together(statements)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function of the connection; SQLAlchemy tells of its statements."""
        self._breaking.check_alive()
        return await self._real.run(work)

    async def call(self, call: Call, *event: object) -> None:
        """Call a joined handler."""
        with self._step("handler"):
            await self._real.call(call, *event)

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call a joined handler with each event."""
        with self._step("handler"):
            await self._real.call_each(call, events, ran, seconds=seconds)

    async def commit(self) -> None:
        """Commit."""
        with self._step("commit"):
            await self._real.commit()

    async def release_and_commit(self, statements: Sequence[Bound] = ()) -> None:
        """Release the savepoint, run statements and commit, in one round trip."""
        with self._step("commit"):
            await self._real.release_and_commit(statements)

    async def close(self) -> None:
        """Give the connection back; of a dead process's the database would undo as much."""
        event.remove(self.sync, "before_cursor_execute", self._before)
        event.remove(self.sync, "after_cursor_execute", self._after)
        await self._real.close()


class WatchedIO:
    """A guard's I/O that passes points."""

    def __init__(self, real: IO, breaking: Breaking) -> None:
        self._real = real
        self._breaking = breaking

    def _step(self, step: Step) -> AbstractContextManager[None]:
        self._breaking.check_alive()
        return self._breaking.step(step, lambda: None)

    async def begin(self) -> Transaction:
        """Open a transaction."""
        transaction: WatchedTransaction | None = None
        try:
            self._breaking.check_alive()
            with self._breaking.step("begin", lambda: None if transaction is None else transaction.sync):
                transaction = WatchedTransaction(await self._real.begin(), self._breaking)
        except BaseException:
            if transaction is not None:
                await transaction.close()
            raise
        return transaction

    async def once(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements as one transaction of their own: a step that commits."""
        with self._step("commit"):
            return await self._real.once(statements)

    async def call(self, call: Call, *event: object) -> None:
        """Call an apart handler."""
        with self._step("handler"):
            await self._real.call(call, *event)

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call an apart handler with each event."""
        with self._step("handler"):
            await self._real.call_each(call, events, ran, seconds=seconds)

    async def ask(self, question: Callable[[], object], *, is_async: bool) -> object:
        """Ask something of the application's."""
        self._breaking.check_alive()
        return await self._real.ask(question, is_async=is_async)

    def listening(self, heard: Callable[[str], object]) -> AbstractAsyncContextManager[None]:
        """Tell what other processes notify."""
        return self._real.listening(heard)

    def interrupts(self, call: Call) -> bool:
        """Return whether an interruption ends this call's handler."""
        return self._real.interrupts(call)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        self._breaking.check_alive()
        await self._real.sleep(seconds)

    def renewing(
        self, renew: Callable[[], Awaitable[object]], every_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """Renew a lease; whoever is dead stops doing so, and nobody hears of it."""

        async def renew_alive() -> None:
            with suppress(Crash):
                await renew()

        return self._real.renewing(renew_alive, every_seconds)

    def close(self) -> None:
        """End what runs in the background."""
        self._real.close()

    def forget_threads(self) -> None:
        """In a child of fork: forget the parent's threads."""
        self._real.forget_threads()

    async def shielded(self, work: Coroutine[object, None, T]) -> T:
        """Run work to its end."""
        return await self._real.shielded(work)

    async def all(self, works: Sequence[Coroutine[object, None, T]]) -> list[T | Exception]:
        """Run works, side by side where that costs nobody a thread."""
        return await self._real.all(works)
