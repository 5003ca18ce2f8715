"""An event that is on record is tried again: one shape for retries and for the drain, joined and apart.

A `Job` says what to look at before, and what to write after; `attempt` puts the handler's call between the two, inside
one transaction (joined) or between two. Where the transaction is lost, the job writes into a fresh one, after it
took its locks and looked again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState, Trouble, is_no_savepoint, trouble
from .._instruments import Delivery, Watching, watching
from .._io.protocol import Call, Transaction
from .._model import Outcome, OutcomeStatus
from .._notices import Notice
from .._store.claims import Settings, read_settings, restore_settings
from ..errors import HandlerLeftTransactionAborted, StoreUnavailable
from .context import Context, Tries, is_store_error, or_give_back, transact, unavailable
from .delivering import handlers_own_error, undo_to_savepoint
from .keeping import FailedCall, described_call
from .projection import Projection

__all__ = ["Done", "Job", "attempt", "refuse"]

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

    @property
    def is_news(self) -> bool:
        """False where nothing became of the event here: it was on record, or is somebody else's by now."""
        ...


class Job(Protocol):
    """One event of record that is to be tried."""

    @property
    def what(self) -> str:
        """Name it in an error."""
        ...

    def delivery(self, event: object) -> Delivery:
        """Say what is tried, for who watches."""
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

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        """In a fresh transaction after the call: take the locks, look; None where the outcome is to be written.

        `was_mine`: an earlier look after the same call said so; its COMMIT may have come through with its reply lost.
        """
        ...

    def give_back(self, connection: Connection) -> None:
        """In a fresh transaction: end the job's lease if it has one still. The attempt came to no end, nor counts."""
        ...

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Keep the job's lease while an apart handler runs."""
        ...


@dataclass(slots=True)
class _Progress:
    """How far an attempt has come, and who watches it."""

    watch: Watching
    has_called: bool = False


async def attempt(context: Context, projection: Projection, job: Job, event: object) -> Outcome:
    """Try an event of record once and record how it went; raises `StoreUnavailable` where that cannot be done.

    Cancelled, the event is given back untried. A blocking handler in a thread ends when it will: its end is waited for
    and recorded, also after a second cancellation, with which the waiting ends. A handler that exits the program is not
    given back: its attempt counts, so that it does not do so for ever. One that was not called, for want of a
    connection, is given back if that can be done.
    """
    watch = watching(context.instruments, lambda: [job.delivery(event)])
    call, progress = projection.call(abandonable=True, watch=watch), _Progress(watch=watch)
    work = (_joined if projection.joins else _apart)(context, projection, job, call, event, progress)
    try:
        if projection.joins or context.io.interrupts(call):
            done = await or_give_back(context, work, job.give_back, what=job.what, but=(Exception, SystemExit))
        else:
            done = await context.io.shielded(work)
    except StoreUnavailable:
        if not progress.has_called:
            await _not_called(context, job)
        raise
    if projection.joins:
        _tell(context, watch, done)
    return done.outcome


def _tell(context: Context, watch: Watching, done: Done) -> None:
    context.tell(done.notices)
    if done.is_news:
        if done.outcome.status is OutcomeStatus.PARKED:
            watch.parked()
        watch.settled(done.outcome)
    if done.wake_seconds is not None:
        context.wake(done.wake_seconds)


async def refuse(context: Context, job: Job, call: FailedCall) -> Outcome:
    """Record that an event cannot be tried at all; as `attempt`, without the call."""
    watch = watching(context.instruments, lambda: [job.delivery(None)])
    watch.failed(call.error)
    work = transact(context, lambda connection: job.prepare(connection) or job.failed(connection, call), what=job.what)
    done = await or_give_back(context, work, job.give_back, what=job.what)
    _tell(context, watch, done)
    return done.outcome


async def _joined(
    context: Context, projection: Projection, job: Job, call: Call, event: object, progress: _Progress
) -> Done:
    tries = Tries(context.io)
    while True:
        done = await _joined_once(context, projection, job, call, event, tries, progress)
        if done is not None:
            return done
        await tries.pause()


async def _not_called(context: Context, job: Job) -> None:
    """Give back an attempt that did not come to its handler's call."""
    with suppress(Exception):
        await transact(context, job.give_back, what=job.what, seconds=5.0)


async def _joined_once(
    context: Context,
    projection: Projection,
    job: Job,
    call: Call,
    event: object,
    tries: Tries,
    progress: _Progress,
) -> Done | None:
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
        started, progress.has_called = perf_counter(), True
        error = await _call(transaction, call, projection.given(event))
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
        failed = described_call(error, duration_ms, progress.watch.failed(error))
        done = await _write_here(transaction, job, failed) if state is not TransactionState.LOST else None
    finally:
        await transaction.close()
    return done if done is not None else await _write_anew(context, job, lambda anew: job.failed(anew, failed))


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


async def _call(transaction: Transaction, call: Call, event: object) -> Exception | None:
    try:
        await transaction.call(call, event)
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


async def _write_anew(context: Context, job: Job, write: Callable[[Connection], Done]) -> Done:
    was_mine = False

    def look_and_write(connection: Connection) -> Done:
        nonlocal was_mine
        done = job.still_mine(connection, was_mine=was_mine)
        was_mine = was_mine or done is None
        return write(connection) if done is None else done

    return await transact(context, look_and_write, what=job.what)


async def _record(context: Context, job: Job, watch: Watching, write: Callable[[Connection], Done]) -> Done:
    """Record what an apart call came to, and tell it: whoever is cancelled meanwhile is not asked for it any more."""
    done = await _write_anew(context, job, write)
    _tell(context, watch, done)
    return done


async def _apart(
    context: Context, projection: Projection, job: Job, call: Call, event: object, progress: _Progress
) -> Done:
    done = await transact(context, job.prepare, what=job.what)
    if done is not None:
        _tell(context, progress.watch, done)
        return done
    started, progress.has_called = perf_counter(), True
    # Recorded inside: to end the renewing takes a moment, in which a cancellation would forget what the handler did.
    async with job.renewing():
        error: Exception | None = None
        try:
            await context.io.call(call, projection.given(event))
        except Exception as raised:
            error = raised
        if error is not None:
            duration_ms = (perf_counter() - started) * 1000
            failed = described_call(error, duration_ms, progress.watch.failed(error))
            kept = _record(context, job, progress.watch, lambda anew: job.failed(anew, failed))
            return await context.io.shielded(kept)
        context.timings.add(projection.name, (perf_counter() - started) * 1000)
        return await context.io.shielded(_record(context, job, progress.watch, job.succeeded))
