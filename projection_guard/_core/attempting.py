"""An event that is on record is tried again: one shape for retries and for the drain, joined and apart.

A `Job` says what to look at before, and what to write after; `attempt` puts the handler's call between the two, inside
one transaction (joined) or between two. Where the transaction is lost, the job writes into a fresh one, after it
took its locks and looked again.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Final, Protocol

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState, Trouble, is_no_savepoint, trouble
from .._io.protocol import Transaction
from .._model import Outcome
from .._notices import Notice
from .._store.claims import Settings, read_settings, restore_settings
from ..errors import HandlerLeftTransactionAborted
from .context import Context, Tries, is_store_error, transact, unavailable
from .delivering import handlers_own_error, undo_to_savepoint
from .keeping import FailedCall, described_call
from .projection import Projection

__all__ = ["Done", "Job", "attempt"]

_SAVEPOINT: Final = Bound("SAVEPOINT projection_guard")
_RELEASE: Final = Bound("RELEASE SAVEPOINT projection_guard")


class Done(Protocol):
    """What an attempt led to, with what to tell once it is committed."""

    @property
    def outcome(self) -> Outcome:
        """What became of the event."""
        ...

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What to tell."""
        ...

    @property
    def wake_seconds(self) -> float | None:
        """When there is more to do, from now; None for never."""
        ...


class Job(Protocol):
    """One event of record that is to be tried."""

    @property
    def what(self) -> str:
        """Name it in an error."""
        ...

    def prepare(self, connection: Connection) -> Done | None:
        """Take the locks, look, and say why not to call the handler; None to call it."""
        ...

    def succeeded(self, connection: Connection) -> Done:
        """Write that it was applied. In a fresh transaction `prepare`'s locks are taken again first."""
        ...

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        """Write that it failed. In a fresh transaction `prepare`'s locks are taken again first."""
        ...

    def still_mine(self, connection: Connection) -> Done | None:
        """In a fresh transaction: take the locks and look; None where the outcome is this attempt's to write."""
        ...

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Keep the job's lease while an apart handler runs."""
        ...


async def attempt(context: Context, projection: Projection, job: Job, event: object) -> Outcome:
    """Try an event of record once and record how it went; raises `StoreUnavailable` where that cannot be done."""
    done = await (
        _joined(context, projection, job, event) if projection.joins else _apart(context, projection, job, event)
    )
    context.tell(done.notices)
    if done.wake_seconds is not None:
        context.wake(done.wake_seconds)
    return done.outcome


async def _joined(context: Context, projection: Projection, job: Job, event: object) -> Done:
    tries = Tries(context.io)
    while True:
        done = await _joined_once(context, projection, job, event, tries)
        if done is not None:
            return done
        await tries.pause()


async def _joined_once(context: Context, projection: Projection, job: Job, event: object, tries: Tries) -> Done | None:
    """Try within one transaction; None asks for all of it again after a deadlock, or a connection found dead."""
    transaction = await context.io.begin()
    try:
        try:
            done, settings = await _prepare(context, projection, transaction, job)
        except Exception as refused:
            if not is_store_error(refused):
                raise
            if tries.may_redo(refused):
                return None
            raise unavailable(job.what, refused) from refused
        if done is not None:
            return done
        started = perf_counter()
        error = await _call(projection, transaction, event)
        duration_ms = (perf_counter() - started) * 1000
        state = transaction.state
        if error is None and state is TransactionState.OPEN:
            done, error = await _finish(transaction, job, settings)
            if done is not None:
                context.timings.add(projection.name, duration_ms)
                return done
            state = TransactionState.LOST
        if error is None:
            error = HandlerLeftTransactionAborted.after(is_lost=state is TransactionState.LOST)
        if state is not TransactionState.OPEN and trouble(error) is Trouble.REDO and tries.may_redo(error):
            return None
        call = described_call(error, duration_ms)
        done = await _write_here(transaction, job, call) if state is not TransactionState.LOST else None
    finally:
        await transaction.close()
    return done if done is not None else await _write_anew(context, job, call)


async def _prepare(
    context: Context, projection: Projection, transaction: Transaction, job: Job
) -> tuple[Done | None, Settings]:
    """Take the job's locks and set the savepoint; or commit and return why the handler is not to be called."""
    rows = await transaction.together(context.hot.preamble(limit_seconds=projection.timeout_seconds))
    done = await transaction.run(job.prepare)
    if done is not None:
        await transaction.commit()
    else:
        await transaction.together([_SAVEPOINT])
    return done, read_settings(rows)


async def _call(projection: Projection, transaction: Transaction, event: object) -> Exception | None:
    try:
        await transaction.call(projection.call(abandonable=True), event)
    except Exception as raised:
        return handlers_own_error(raised)
    return None


async def _finish(transaction: Transaction, job: Job, settings: Settings) -> tuple[Done | None, Exception | None]:
    """Write that it was applied, under the role and the search path that were ours before the handler changed them."""

    def write(connection: Connection) -> Done:
        restore_settings(connection, settings)
        return job.succeeded(connection)

    try:
        await transaction.together([_RELEASE])
        done = await transaction.run(write)
        await transaction.commit()
    except Exception as error:
        return None, HandlerLeftTransactionAborted.after(is_lost=True) if is_no_savepoint(error) else error
    return done, None


async def _write_here(transaction: Transaction, job: Job, call: FailedCall) -> Done | None:
    def write(connection: Connection) -> Done:
        undo_to_savepoint(connection)
        return job.failed(connection, call)

    try:
        done = await transaction.run(write)
        await transaction.commit()
    except Exception as error:
        if not is_store_error(error):
            raise
        return None
    return done


async def _write_anew(context: Context, job: Job, call: FailedCall) -> Done:
    return await transact(
        context, lambda connection: job.still_mine(connection) or job.failed(connection, call), what=job.what
    )


async def _apart(context: Context, projection: Projection, job: Job, event: object) -> Done:
    done = await transact(context, job.prepare, what=job.what)
    if done is not None:
        return done
    started = perf_counter()
    try:
        async with job.renewing():
            await context.io.call(projection.call(abandonable=True), event)
    except Exception as error:
        call = described_call(error, (perf_counter() - started) * 1000)
        return await context.io.shielded(_write_anew(context, job, call))
    context.timings.add(projection.name, (perf_counter() - started) * 1000)
    return await context.io.shielded(
        transact(context, lambda connection: job.still_mine(connection) or job.succeeded(connection), what=job.what)
    )
