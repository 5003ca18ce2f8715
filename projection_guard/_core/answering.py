"""What `publish` is told of an event that is not simply applied: known already, parked now, failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from .._instruments import Watching
from .._io.protocol import Transaction
from .._model import Json, Outcome, OutcomeStatus
from .._notices import Notice, NoticeKind
from .._store import counters, gates, parked
from .._store.claims import Ticket
from ..errors import CodecError, StoreUnavailable
from .context import Context, encoded, is_store_error, unavailable
from .keeping import Written
from .projection import Projection

__all__ = ["Refusal", "answer", "known_answer", "park_or_answer", "parked_or_known", "refused", "report"]

_OVERTAKEN: Final = "a transaction was lost, and the event was parked behind a later one of the stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a gate refuses an event. `can_drain`: its stream could be drained right now."""

    outcome: Outcome
    is_parked_now: bool = False
    can_drain: bool = False


def answer(ticket: Ticket, status: OutcomeStatus, *, failure_id: UUID | None = None, attempts: int = 0) -> Outcome:
    """Say what became of an event."""
    return Outcome(
        status=status,
        projection=ticket.projection,
        event_id=ticket.event.event_id,
        failure_id=failure_id,
        attempts=attempts,
    )


def known_answer(ticket: Ticket, seen: gates.Look, *, applied_now: bool = False) -> Outcome | None:
    """Answer by what is on record; None where nothing is. `applied_now`: a record can only be this delivery's own."""
    if seen.done is not None:
        return answer(
            ticket, OutcomeStatus.APPLIED if applied_now else OutcomeStatus.DUPLICATE, attempts=int(applied_now)
        )
    if seen.failure_id is not None:
        return answer(ticket, OutcomeStatus.FAILED, failure_id=seen.failure_id, attempts=seen.retry_count + 1)
    return answer(ticket, OutcomeStatus.PARKED) if seen.parked_id is not None else None


def refused(
    connection: Connection,
    context: Context,
    projection: Projection,
    ticket: Ticket,
    event: object,
    *,
    lost: int | None = None,
) -> Refusal | None:
    """Decide in a later statement why the gate refused: answer as before, or park. None: it would not refuse now.

    `lost`: the epoch of a claim of this delivery that was broken off; whoever came in between is parked before it.
    """
    gate = gates.lock(connection, ticket)
    seen = gates.look(connection, ticket.projection, ticket.event.event_id)
    known = known_answer(ticket, seen)
    if known is not None:
        return Refusal(outcome=known)
    if seen.is_followed:  # by others: this guard has no source
        return Refusal(outcome=answer(ticket, OutcomeStatus.DEFERRED))
    if seen.flows and not gate.blocked and not gate.is_leased:
        return None
    parked.park(connection, [ticket], _payload(context, projection, ticket, event), _reason(gate, seen))
    if lost is not None and gate.epoch >= lost:
        gates.taint(connection, ticket.projection, ticket.gate, _OVERTAKEN)
    can_drain = gates.settle(connection, ticket.projection, ticket.gate, projection.order)
    counters.bump_checkpoint(connection, ticket.projection, ticket.event)
    return Refusal(outcome=answer(ticket, OutcomeStatus.PARKED), is_parked_now=True, can_drain=can_drain and seen.flows)


def _reason(gate: gates.Gate, seen: gates.Look) -> str:
    if seen.state != "active":
        return seen.state
    if seen.is_held:
        return "held"
    return "blocked" if gate.blocked else "leased"


def _payload(context: Context, projection: Projection, ticket: Ticket, event: object) -> Json:
    try:
        return encoded(context, ticket, event)
    except StoreUnavailable:
        raise
    except Exception as error:
        raise CodecError(
            f"{projection.name}: event {ticket.event.event_id!r} ({ticket.event.event_type}) has to wait for its turn "
            f"and cannot be kept: {error if isinstance(error, CodecError) else type(error).__name__}"
        ) from error


async def park_or_answer(
    context: Context,
    projection: Projection,
    ticket: Ticket,
    event: object,
    transaction: Transaction,
    watch: Watching,
    *,
    lost: int | None = None,
) -> Outcome | None:
    """Answer a refused claim within its own transaction; None asks for another claim."""
    try:
        decided = await transaction.run(
            lambda connection: refused(connection, context, projection, ticket, event, lost=lost)
        )
        if decided is None:
            return None
        await transaction.commit()
    except Exception as error:
        if is_store_error(error):
            raise unavailable(f"{ticket.projection}: event {ticket.event.event_id!r} was not parked", error) from error
        raise
    return parked_or_known(context, ticket, decided, watch)


def parked_or_known(context: Context, ticket: Ticket, refusal: Refusal, watch: Watching) -> Outcome:
    """Tell of an event that was parked, once that is committed."""
    if refusal.is_parked_now:
        watch.parked()
        context.tell(
            [
                Notice(
                    kind=NoticeKind.PARKED,
                    projection=ticket.projection,
                    event_id=ticket.event.event_id,
                    event_type=ticket.event.event_type,
                    stream_id=ticket.event.stream_id,
                )
            ]
        )
        context.wake(0.0 if refusal.can_drain else 1.0)
    return refusal.outcome


def report(context: Context, ticket: Ticket, written: Written) -> Outcome:
    """Tell of a failure that was written, once that is committed, and have its retry made in time."""
    context.tell(written.notices)
    context.wake(1.0 if written.delay_seconds is None else written.delay_seconds)
    return answer(ticket, OutcomeStatus.FAILED, failure_id=written.failure_id, attempts=written.retry_count + 1)
