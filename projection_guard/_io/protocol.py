"""The small protocol between the flow and the two ways of doing I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState

__all__ = ["IO", "Call", "Ran", "Rows", "Transaction", "drive"]

T = TypeVar("T")
Rows = Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a handler is to be called. `abandonable`: it may be left behind in a thread when its time is up."""

    handler: Callable[..., object]
    is_async: bool
    timeout_seconds: float
    abandonable: bool


@dataclass(slots=True)
class Ran:
    """How far a row of calls has come: `done` of them ended well. It tells also where the row was broken off."""

    done: int = 0


class Transaction(Protocol):
    """A transaction of the guard. `close` it in any case; what was not committed by then is rolled back."""

    @property
    def connection(self) -> object:
        """The SQLAlchemy connection that a joined handler is given."""
        ...

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands, as the driver knows without asking the server."""
        ...

    async def together(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements in one round trip where the driver can; return each one's rows."""
        ...

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a function of the connection in this transaction."""
        ...

    async def call(self, call: Call, *event: object) -> None:
        """Call a joined handler with the event (`on_reset`: none) and this connection, which it cannot commit or undo.

        Raises what the handler raises, or `HandlerTimeout`.
        """
        ...

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call a joined handler with one event after the other; ends early, without an error, once `seconds` are over.

        Raises what the handler raises, or `HandlerTimeout`, each call with its own timeout; `ran` says at which event.
        """
        ...

    async def commit(self) -> None:
        """Commit. When the connection is lost meanwhile, whether it was committed is unknown."""
        ...

    async def release_and_commit(self, statements: Sequence[Bound] = ()) -> None:
        """Release the savepoint, run statements and commit, in one round trip where the driver can.

        The release fails where the handler ended our transaction by itself and another one began: nothing is committed.
        """
        ...

    async def close(self) -> None:
        """Roll back what was not committed and give the connection back; never raises for a lost connection."""
        ...


class IO(Protocol):
    """One way of doing I/O: blocking or async."""

    async def begin(self) -> Transaction:
        """Open a transaction. Raises `StoreUnavailable` when no connection is to be had."""
        ...

    async def once(self, statements: Sequence[Bound]) -> list[Rows]:
        """Run statements as one transaction of their own, in one round trip where the driver can."""
        ...

    async def call(self, call: Call, *event: object) -> None:
        """Call an apart handler. Raises what it raises, or `HandlerTimeout`, which says where it was left running."""
        ...

    async def call_each(self, call: Call, events: Sequence[object], ran: Ran, *, seconds: float) -> None:
        """Call an apart handler with one event after the other, as `Transaction.call_each` does."""
        ...

    async def ask(self, question: Callable[[], object], *, is_async: bool) -> object:
        """Ask something of the application's that may take a while, like its event log: awaited, or off the loop."""
        ...

    def listening(self, heard: Callable[[str], object]) -> AbstractAsyncContextManager[None]:
        """Tell what other processes notify while the block runs, as far as the database can do that."""
        ...

    def interrupts(self, call: Call) -> bool:
        """Return whether an interruption (a cancelled task, Ctrl-C) ends this call's handler. A thread goes on."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def renewing(
        self, renew: Callable[[], Awaitable[object]], every_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """Call `renew` again and again while the block runs; its errors are logged, not raised."""
        ...

    def close(self) -> None:
        """End what runs in the background; it begins anew with the next call that needs it."""
        ...

    def forget_threads(self) -> None:
        """In a child of fork: forget the parent's threads."""
        ...

    async def shielded(self, work: Coroutine[object, None, T]) -> T:
        """Run work to its end, also while this task is being cancelled."""
        ...

    async def all(self, works: Sequence[Coroutine[object, None, T]]) -> list[T | Exception]:
        """Run works, side by side where that costs nobody a thread; return results and errors in their order."""
        ...


def drive(work: Coroutine[object, None, T]) -> T:
    """Run a coroutine whose I/O is blocking to its end; it must never suspend."""
    try:
        work.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    work.close()
    raise RuntimeError("a blocking flow tried to suspend: this is a bug in projection_guard")
