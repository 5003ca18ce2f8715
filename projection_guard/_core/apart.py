"""Apart handlers write elsewhere: their stream is lent to the call, and what became of it is recorded afterwards.

Only the call is the handler's; bookkeeping that goes wrong is done again by itself and never runs the handler twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Final

from sqlalchemy import Connection

from .._instruments import Watching
from .._io.protocol import Call
from .._model import Outcome, OutcomeStatus
from .._store import gates, parked, settled
from .._store.claims import Ticket
from ..errors import StoreUnavailable
from .answering import Refusal, answer, known_answer, parked_or_known, refused, report
from .context import Context, Tries, is_store_error, new_token, or_give_back, transact, unavailable
from .keeping import FailedCall, Written, failed_call, write_failure
from .projection import Projection

__all__ = ["deliver_apart", "renewer"]

_OVERRAN: Final = "the lease of an apart call ran out while it was made: its event may be out of order"


async def deliver_apart(
    context: Context, projection: Projection, ticket: Ticket, event: object, born: str | None, watch: Watching
) -> Outcome:
    """Bring an event to an apart handler. Cancelled, the stream is given back and nothing is recorded.

    Cancelled after the handler has ended, what it came to is recorded first: it is never called again for that. A
    blocking handler in a thread ends when it will: its end is waited for, and recorded, also after a second
    cancellation, with which the waiting ends.
    """
    token = new_token()
    taking = _lease(context, projection, ticket, event, token, watch)
    known = await or_give_back(context, taking, _giving_back(ticket, token), what=_not_given_back(ticket))
    if known is not None:
        watch.settled(known)
        return known
    call = projection.call(abandonable=False, watch=watch)
    work = _call(context, projection, ticket, event, token, born, call, watch)
    if not context.io.interrupts(call):
        return await context.io.shielded(work)
    return await or_give_back(context, work, _giving_back(ticket, token), what=_not_given_back(ticket))


async def _call(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    event: object,
    token: str,
    born: str | None,
    call: Call,
    watch: Watching,
) -> Outcome:
    """Call the handler and record what it came to.

    Interrupted while the handler goes on, the stream's lease stays, runs out, and whoever takes the stream taints it.
    """
    started = perf_counter()
    # Recorded inside: to end the renewing takes a moment, in which a cancellation would forget what the handler did.
    async with context.io.renewing(renewer(context, ticket, token), context.lease_seconds / 3):
        error: Exception | None = None
        try:
            await context.io.call(call, projection.given(event))
        except Exception as raised:
            error = raised
        if error is not None:  # out of its except: what the store may say of it would carry the handler's error along
            duration_ms = (perf_counter() - started) * 1000
            failed = failed_call(context, ticket, event, error, duration_ms, watch.failed(error))
            return await context.io.shielded(_told(watch, _keep(context, projection, ticket, failed, token, born)))
        context.timings.add(projection.name, (perf_counter() - started) * 1000)
        return await context.io.shielded(_told(watch, _settle(context, projection, ticket, token)))


async def _told(watch: Watching, recording: Coroutine[object, None, Outcome]) -> Outcome:
    """Tell what was recorded also where whoever delivered is cancelled meanwhile, and is not told himself."""
    outcome = await recording
    watch.settled(outcome)
    return outcome


async def _lease(
    context: Context, projection: Projection, ticket: Ticket, event: object, token: str, watch: Watching
) -> Outcome | None:
    """Take the stream; None where it is ours, else what is known of the event, or that it was parked."""
    what = f"{ticket.projection}: event {ticket.event.event_id!r} was not taken"
    tries = Tries(context.io)
    while True:
        try:
            statements = context.hot.lease(
                ticket, token=token, lease_seconds=context.lease_seconds, limit_seconds=projection.timeout_seconds
            )
            if (await context.io.once(statements))[0]:
                return None
        except Exception as error:
            if not is_store_error(error) or not tries.may_redo(error):
                raise unavailable(what, error) from error
        decided = await transact(
            context, lambda connection: _look(connection, context, projection, ticket, event, token), what=what
        )
        if decided is not None:
            return parked_or_known(context, ticket, decided, watch)
        if not tries.may_redo():
            raise StoreUnavailable(f"{what}: its stream changed hands again and again meanwhile; deliver it once more")
        await tries.pause()


def _look(
    connection: Connection, context: Context, projection: Projection, ticket: Ticket, event: object, token: str
) -> Refusal | None:
    """Decide why the lease was refused; one whose reply was lost is ours, and is given back to be taken again."""
    if gates.lock(connection, ticket).lease_owner == token:
        gates.release(connection, ticket.projection, ticket.gate, token=token)
        return None
    return refused(connection, context, projection, ticket, event)


def renewer(context: Context, ticket: Ticket, token: str) -> Callable[[], Awaitable[object]]:
    """Return what prolongs the lease of a call under way."""

    def renew(connection: Connection) -> bool:
        return gates.renew(connection, ticket.projection, ticket.gate, token=token, lease_seconds=context.lease_seconds)

    return lambda: transact(context, renew, what=f"{ticket.projection}: a lease was not renewed", seconds=5.0)


async def _settle(context: Context, projection: Projection, ticket: Ticket, token: str) -> Outcome:
    """Record a call that went well."""
    try:
        statements = context.hot.settle(ticket, token=token, limit_seconds=projection.timeout_seconds)
        rows = (await context.io.once(statements))[-1]
    except Exception as error:
        if not is_store_error(error) and not isinstance(error, StoreUnavailable):
            raise
        rows = ()
    if rows:
        return answer(ticket, OutcomeStatus.APPLIED, attempts=1)

    def write(connection: Connection) -> tuple[Outcome, bool]:
        gate = gates.lock(connection, ticket)
        seen = gates.look(connection, ticket.projection, ticket.event.event_id)
        known = known_answer(ticket, seen, applied_now=True)
        is_ours = gate.lease_owner == token
        if known is not None and not (is_ours and _waits_behind_itself(seen)):
            return known, False
        if seen.parked_id is not None:
            parked.unpark(connection, seen.parked_id)
        settled.record(connection, ticket)
        if not is_ours:
            gates.taint(connection, ticket.projection, ticket.gate, _OVERRAN)
        can_drain = gates.settle(connection, ticket.projection, ticket.gate, projection.order, free=is_ours)
        return answer(ticket, OutcomeStatus.APPLIED, attempts=1), can_drain

    what = f"{ticket.projection}: the handler ran for event {ticket.event.event_id!r}, which is not on record"
    outcome, can_drain = await transact(context, write, what=what)
    if can_drain:
        context.wake(0.0)
    return outcome


async def _keep(
    context: Context, projection: Projection, ticket: Ticket, call: FailedCall, token: str, born: str | None
) -> Outcome:
    """Record a call that failed, and free the stream for its retries only."""

    def write(connection: Connection) -> Outcome | Written:
        gate = gates.lock(connection, ticket)
        seen = gates.look(connection, ticket.projection, ticket.event.event_id)
        known = known_answer(ticket, seen)
        is_ours = gate.lease_owner == token
        if known is not None and not (is_ours and _waits_behind_itself(seen)):
            return known
        if seen.parked_id is not None:
            parked.unpark(connection, seen.parked_id)
        return write_failure(
            connection,
            context,
            projection,
            ticket,
            call,
            taint=None if is_ours else _OVERRAN,
            free=is_ours,
            born=born,
        )

    result = await transact(context, write, what=f"{ticket.projection}: event {ticket.event.event_id!r} failed")
    return result if isinstance(result, Outcome) else report(context, ticket, result)


def _waits_behind_itself(seen: gates.Look) -> bool:
    """Return whether the event was delivered again during its own call, and parked behind it."""
    return seen.parked_id is not None and seen.done is None and seen.failure_id is None


def _giving_back(ticket: Ticket, token: str) -> Callable[[Connection], object]:
    return lambda connection: gates.release(connection, ticket.projection, ticket.gate, token=token)


def _not_given_back(ticket: Ticket) -> str:
    return f"{ticket.projection}: a stream was not given back"
