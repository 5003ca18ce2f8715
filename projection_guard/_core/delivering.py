"""A new event on its way into a projection: claim its stream, call the handler, settle or keep.

Joined handlers run inside the guard's transaction, behind a savepoint; apart ones between two of them, their stream
held by a short lease. The claim is the hot path; everything else here happens after something went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Final

from sqlalchemy import Connection

from .._dialect import TransactionState, Trouble, is_no_savepoint, trouble
from .._instruments import Delivery, Watching, watching
from .._io.protocol import Transaction
from .._model import EventRecord, Origin, Outcome, OutcomeStatus
from .._store import failures, gates
from .._store.claims import Claim, Ticket, read_claim
from ..errors import ConnectionRefusedToHandler, HandlerLeftTransactionAborted, StoreUnavailable
from .answering import answer, known_answer, park_or_answer, report
from .apart import deliver_apart
from .context import Context, Tries, is_store_error, transact, unavailable
from .keeping import FailedCall, Written, failed_call, write_failure
from .projection import Projection

__all__ = ["deliver", "handlers_own_error", "undo_to_savepoint"]

_SAVEPOINT_UNDONE: Final = "ROLLBACK TO SAVEPOINT projection_guard"
_SLIPPED_IN: Final = "a transaction was lost, and a later event of the stream was applied first"


@dataclass(slots=True)
class _Place:
    """A delivery's place in its stream: the gate's epoch at its first claim. Broken off, it may lose that.

    `outcome`: what became of it, once that is committed, also where it is cancelled before it can return that.
    """

    epoch: int | None = None
    taint: str | None = None
    outcome: Outcome | None = None

    def take(self, claim: Claim) -> str | None:
        """Note a claim that was granted; say so if somebody came in between the first one and this one."""
        if self.epoch is None:
            self.epoch = claim.epoch
        self.taint = _SLIPPED_IN if claim.epoch != self.epoch else None
        return self.taint


async def deliver(
    context: Context,
    projection: Projection,
    event: object,
    record: EventRecord,
    *,
    origin: Origin,
    born: str | None = None,
) -> Outcome:
    """Bring one event to one projection and say what became of it. The handler's own error is kept, not raised.

    Raises `StoreUnavailable` where nothing could be recorded. Cancelled, it raises that; no failure is written.
    """
    ticket = projection.ticket(record)
    watch = watching(
        context.instruments,
        lambda: [Delivery(projection=projection.name, origin=origin, record=record, event=event)],
    )
    if not projection.joins:
        return await deliver_apart(context, projection, ticket, event, born, watch)
    place = _Place()
    try:
        outcome = await _deliver_joined(context, projection, ticket, event, born, place, watch)
        place.outcome = outcome
    finally:
        if place.outcome is not None:
            watch.settled(place.outcome)
    return outcome


async def _deliver_joined(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    event: object,
    born: str | None,
    place: _Place,
    watch: Watching,
) -> Outcome:
    tries = Tries(context.io)
    while True:
        outcome = await _joined(context, projection, ticket, event, born, tries, place, watch)
        if outcome is not None:
            return outcome
        if not tries.may_redo():
            raise StoreUnavailable(
                f"{projection.name}: event {ticket.event.event_id!r} met deadlocks or lost connections again "
                "and again; deliver it once more"
            )
        await tries.pause()


async def _joined(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    event: object,
    born: str | None,
    tries: Tries,
    place: _Place,
    watch: Watching,
) -> Outcome | None:
    """Deliver once; None asks for the whole transaction to be done again."""
    transaction = await context.io.begin()
    try:
        claim = await _claim(context, projection, ticket, transaction, place)
        if claim is None:
            return None
        if claim.duplicate:
            return answer(ticket, OutcomeStatus.DUPLICATE)
        if not claim.granted:
            return await park_or_answer(context, projection, ticket, event, transaction, watch, lost=place.epoch)
        started = perf_counter()
        error: Exception | None = None
        try:
            await transaction.call(projection.call(abandonable=False, watch=watch), projection.given(event))
        except Exception as raised:
            error = handlers_own_error(raised)
        duration_ms = (perf_counter() - started) * 1000
        state = transaction.state
        if error is None and state is TransactionState.OPEN:
            error = await _commit(transaction)
            if error is None:
                context.timings.add(projection.name, duration_ms)
                place.outcome = answer(ticket, OutcomeStatus.APPLIED, attempts=1)
                return place.outcome
            state = TransactionState.LOST
        if error is None:
            error = HandlerLeftTransactionAborted.after(is_lost=state is TransactionState.LOST)
        if state is not TransactionState.OPEN and trouble(error) is Trouble.REDO and tries.may_redo(error):
            return None
        call = failed_call(context, ticket, event, error, duration_ms, watch.failed(error))
        written = await _keep_here(context, projection, ticket, call, transaction, state, born, place.taint)
    finally:
        await transaction.close()
    if written is None:
        return await _keep_anew(context, projection, ticket, call, claim, born, place.taint)
    return report(context, ticket, written)


async def _claim(
    context: Context, projection: Projection, ticket: Ticket, transaction: Transaction, place: _Place
) -> Claim | None:
    """Take the gate; None where the transaction has to be begun again: nothing has been done in it yet."""
    try:
        statements = context.hot.claim(ticket, limit_seconds=projection.timeout_seconds)
        claim = read_claim(await transaction.together(statements))
        taint = place.take(claim) if claim.granted else None
        if taint is not None:
            await transaction.run(lambda connection: gates.taint(connection, ticket.projection, ticket.gate, taint))
    except Exception as error:
        if trouble(error) in (Trouble.REDO, Trouble.LOST) and is_store_error(error):
            return None
        raise unavailable(f"{ticket.projection}: event {ticket.event.event_id!r} was not taken", error) from error
    return claim


async def _commit(transaction: Transaction) -> Exception | None:
    try:
        await transaction.release_and_commit()
    except Exception as error:
        return HandlerLeftTransactionAborted.after(is_lost=True) if is_no_savepoint(error) else error
    return None


def handlers_own_error(error: Exception) -> Exception:
    """Return what a handler meant: a session that tidies up after an error is refused the rollback, and says so."""
    if isinstance(error, ConnectionRefusedToHandler) and isinstance(error.__context__, Exception):
        return error.__context__
    return error


def undo_to_savepoint(connection: Connection) -> None:
    """Undo what a handler wrote; the stream stays held."""
    connection.exec_driver_sql(_SAVEPOINT_UNDONE)


async def _keep_here(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    call: FailedCall,
    transaction: Transaction,
    state: TransactionState,
    born: str | None,
    taint: str | None,
) -> Written | None:
    """Write the failure in the transaction that still holds the stream; None where that cannot be done any more."""
    if state is TransactionState.LOST:
        return None

    def write(connection: Connection) -> Written:
        undo_to_savepoint(connection)
        failures.undo_claim(connection, ticket)
        return write_failure(connection, context, projection, ticket, call, taint=taint, born=born)

    try:
        written = await transaction.run(write)
        await transaction.commit()
    except Exception as error:
        if not is_store_error(error):
            raise
        return None
    return written


async def _keep_anew(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    call: FailedCall,
    claim: Claim,
    born: str | None,
    taint: str | None,
) -> Outcome:
    """The transaction is lost, perhaps committed: take the gate again, then look, then write what is true."""

    def write(connection: Connection) -> Outcome | Written:
        gate = gates.lock(connection, ticket)
        seen = gates.look(connection, ticket.projection, ticket.event.event_id)
        known = known_answer(ticket, seen, applied_now=True)
        if known is not None:
            return known
        slipped_in = claim.epoch is not None and gate.epoch >= claim.epoch
        reason = _SLIPPED_IN if slipped_in else taint
        return write_failure(connection, context, projection, ticket, call, taint=reason, born=born)

    result = await transact(context, write, what=f"{ticket.projection}: event {ticket.event.event_id!r} failed")
    return result if isinstance(result, Outcome) else report(context, ticket, result)
