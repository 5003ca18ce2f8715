"""One event of the log by itself: what fails, what waits behind a failure, what an unclean death left in hand.

It is an `attempting.Job`: the follower's partition is held instead of a failure's lease, and with whatever becomes of
the event its cursor moves past it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from .._instruments import Delivery
from .._model import Order, Origin, Outcome, OutcomeStatus
from .._notices import Notice, NoticeKind
from .._source import key_of
from .._store import gates, parked, partitions, slices
from .._store.claims import Ticket
from .._store.steps import Held
from .answering import answer, known_answer
from .attempting import Done
from .context import Context, transact
from .healing import Finished
from .keeping import FailedCall, write_failure
from .log import Incoming, Stretch
from .projection import Projection

__all__ = ["LoneEvent", "lease_renewal", "park_behind", "taint_overrun", "taint_overtaken"]

_OVERTAKEN: Final = "an event was missed before, and comes after later ones"
_OVERRAN: Final = "the lease of a follower ran out during a call: its event may come after later ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneEvent:
    """An event whose turn it is in the log. `hand`: what comes after it; `state`: the projection's, to go on in."""

    context: Context
    projection: Projection
    token: str
    incoming: Incoming
    stretch: Stretch
    hand: tuple[int, int] | None
    states: frozenset[str]
    job: UUID | None = None

    @property
    def what(self) -> str:
        """Name it in an error."""
        return f"{self.projection.name}: event {self.incoming.record.event_id!r} of the log is not on record"

    @property
    def ticket(self) -> Ticket:
        """Its place behind a gate."""
        return self.projection.lone_ticket(self.incoming.record)

    def delivery(self, event: object) -> Delivery:
        """Say what is tried, for who watches."""
        return Delivery(
            projection=self.projection.name,
            origin=Origin.FOLLOW if self.job is None else Origin.REPLAY,
            record=self.incoming.record,
            event=event,
        )

    def prepare(self, connection: Connection) -> Done | None:
        """Hold the partition, then the stream; pass over what is on record, park what has to wait."""
        stopped = self.stopped(connection)
        if stopped is not None:
            return stopped
        is_blocked = gates.lock_if_there(connection, self.ticket)
        seen = gates.look(connection, self.projection.name, self.incoming.record.event_id)
        known = known_answer(self.ticket, seen)
        if known is not None:
            partitions.place(connection, self.projection.name, {self.incoming.record.event_id: self.incoming.sequence})
            self.advance(connection, OutcomeStatus.DUPLICATE)
            return Finished(outcome=known, is_news=False)
        if not is_blocked:
            return None
        notices = park_behind(connection, self.projection, [self.ticket])
        self.advance(connection, OutcomeStatus.PARKED)
        return Finished(outcome=self.answer(OutcomeStatus.PARKED), notices=notices)

    def stopped(self, connection: Connection) -> Done | None:
        """Hold the partition; say so where it is not ours any more, past the event, or to stand still."""
        held = self._hold(connection)
        if held is None or held.state not in self.states or held.is_held_up:
            return Finished(outcome=self.answer(OutcomeStatus.DEFERRED), is_news=False)
        if held.cursors[self.incoming.partition] >= self.incoming.sequence:
            return Finished(outcome=self.answer(OutcomeStatus.DUPLICATE), is_news=False)
        if self.job is None and self.incoming.sequence <= held.rescan_until and self._is_behind_slices(connection):
            self.advance(connection, OutcomeStatus.DUPLICATE)
            return Finished(outcome=self.answer(OutcomeStatus.DUPLICATE), is_news=False)
        return None

    def _is_behind_slices(self, connection: Connection) -> bool:
        """Return whether a rebuild in slices, which was cancelled, has come further in this stream."""
        ahead = slices.ahead(connection, self.projection.name)
        return ahead.has(key_of(self.incoming.record), self.incoming.sequence)

    def _hold(self, connection: Connection) -> Held | None:
        held = self.context.follow.hold_here(
            connection, self.projection.name, token=self.token, lease_seconds=self.context.lease_seconds
        )
        lacking = self.stretch.lacks(held.cursors)
        if lacking:  # nothing of partitions that it was not read for is passed over
            partitions.release(connection, self.projection.name, self.token, lacking)
        if self.incoming.partition not in held.cursors or self.incoming.partition in lacking:
            return None
        is_ahead = held.cursors[self.incoming.partition] < self.incoming.sequence <= held.rescan_until
        if is_ahead and self.projection.order is Order.STREAM and not self._is_known(connection):
            taint_overtaken(connection, self.ticket, self.incoming.sequence)
        return held

    def _is_known(self, connection: Connection) -> bool:
        event_id = self.incoming.record.event_id
        return bool(partitions.known(connection, self.projection.name, [event_id]))

    def advance(self, connection: Connection, status: OutcomeStatus, *, is_again: bool = False) -> None:
        """Move the cursor past it. What is applied again on purpose is not counted as processed once more."""
        applied = int(status is OutcomeStatus.APPLIED)
        self.context.follow.advance_here(
            connection,
            self.projection.name,
            token=self.token,
            lease_seconds=self.context.lease_seconds,
            position=self.incoming.sequence,
            last=self.incoming.record,
            applied=0 if is_again else applied,
            hand=self.hand,
            job=self.job,
            replayed=applied,
            passed=int(status is OutcomeStatus.PARKED),
            failed=int(status is OutcomeStatus.FAILED),
        )

    def succeeded(self, connection: Connection) -> Done:
        """Move past it."""
        self.advance(connection, OutcomeStatus.APPLIED)
        return Finished(outcome=self.answer(OutcomeStatus.APPLIED, attempts=1))

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        """Keep it, and move past it."""
        gates.lock(connection, self.ticket)
        written = write_failure(connection, self.context, self.projection, self.ticket, call)
        self.advance(connection, OutcomeStatus.FAILED)
        outcome = answer(self.ticket, OutcomeStatus.FAILED, failure_id=written.failure_id, attempts=1)
        return Finished(outcome=outcome, notices=written.notices, wake_seconds=written.delay_seconds)

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        """Look whether the partition is ours still, and whether the cursor is past the event already."""
        del was_mine  # what this very delivery has committed shows in the cursor
        held = self._hold(connection)
        if held is None:
            if not self.projection.joins:
                taint_overrun(connection, self.ticket)
            return Finished(outcome=self.answer(OutcomeStatus.DEFERRED), is_news=False)
        if held.cursors[self.incoming.partition] < self.incoming.sequence:
            return None
        seen = gates.look(connection, self.projection.name, self.incoming.record.event_id)
        return Finished(outcome=known_answer(self.ticket, seen) or self.answer(OutcomeStatus.APPLIED, attempts=1))

    def give_back(self, connection: Connection) -> None:
        """Leave it in the log: nothing was counted."""

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Keep the lease on the partitions while an apart handler runs."""
        return lease_renewal(self.context, self.projection, self.token)

    def answer(self, status: OutcomeStatus, *, attempts: int = 0) -> Outcome:
        """Say what became of it."""
        return answer(self.ticket, status, attempts=attempts)


def taint_overtaken(connection: Connection, ticket: Ticket, sequence: int) -> None:
    """Say so where an event was missed while its projection was pushed, and a later one of its stream applied."""
    if partitions.applied_beyond(connection, ticket.projection, ticket.gate, sequence):
        gates.lock(connection, ticket)
        gates.taint(connection, ticket.projection, ticket.gate, _OVERTAKEN)


def taint_overrun(connection: Connection, ticket: Ticket) -> None:
    """Say that the call ran beside whoever has taken its stream over."""
    gates.lock(connection, ticket)
    gates.taint(connection, ticket.projection, ticket.gate, _OVERRAN)


def park_behind(connection: Connection, projection: Projection, tickets: Sequence[Ticket]) -> tuple[Notice, ...]:
    """Let events of the log wait behind what is unresolved in their streams; the log has them. Hold their gates."""
    if tickets:
        parked.park(connection, tickets, None, "blocked")
    for gate in dict.fromkeys(ticket.gate for ticket in tickets):
        gates.settle(connection, projection.name, gate, projection.order)
    return tuple(
        Notice(
            kind=NoticeKind.PARKED,
            projection=ticket.projection,
            event_id=ticket.event.event_id,
            event_type=ticket.event.event_type,
            stream_id=ticket.event.stream_id,
        )
        for ticket in tickets
    )


def lease_renewal(context: Context, projection: Projection, token: str) -> AbstractAsyncContextManager[None]:
    """Keep a follower's lease while calls are made outside any transaction."""

    def renew(connection: Connection) -> bool:
        return partitions.renew(connection, projection.name, token, context.lease_seconds)

    what = f"{projection.name}: a follower's lease was not renewed"
    return context.io.renewing(lambda: transact(context, renew, what=what, seconds=5.0), context.lease_seconds / 3)
