"""One event that a replay applies once more, in a stream in which something is unresolved.

What is failed or parked there is settled by it, in the log's order. An event with something unresolved before it stays
parked, or is parked: it is applied once that is healed.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from sqlalchemy import Connection

from .._instruments import Delivery
from .._model import OutcomeStatus, ResolutionMethod
from .._notices import Notice
from .._store import failures, gates, parked, replays, settled
from .attempting import Done
from .healing import Finished, resolved
from .keeping import FailedCall, write_attempt, write_failure
from .lone import LoneEvent, park_behind

__all__ = ["ReplayedEvent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedEvent:
    """An `attempting.Job`. `only_open` passes over what was applied; `skip_failed` leaves failures as they are."""

    base: LoneEvent
    only_open: bool
    skip_failed: bool

    @property
    def what(self) -> str:
        """Name it in an error."""
        return f"{self.base.projection.name}: replaying event {self.base.incoming.record.event_id!r} is not on record"

    def delivery(self, event: object) -> Delivery:
        """Say what is tried, for who watches."""
        return self.base.delivery(event)

    def prepare(self, connection: Connection) -> Done | None:
        """Hold the replay's row, then the stream; pass over what has to wait or is to be left alone."""
        base = self.base
        stopped = base.stopped(connection)
        if stopped is not None:
            return stopped
        gates.lock(connection, base.ticket)
        seen = gates.look(connection, base.projection.name, base.incoming.record.event_id)
        if seen.failure_id is None and seen.parked_id is None and self.only_open:
            return self._pass(connection, OutcomeStatus.DUPLICATE)
        if seen.failure_id is not None and self.skip_failed:
            return self._pass(connection, OutcomeStatus.FAILED)
        if not replays.anything_before(connection, base.ticket, base.projection.order):
            return None
        if seen.failure_id is not None or seen.parked_id is not None:
            return self._pass(connection, OutcomeStatus.PARKED)
        failures.undo_claim(connection, base.ticket)  # what was applied before would be taken for this application
        return self._pass(connection, OutcomeStatus.PARKED, *park_behind(connection, base.projection, [base.ticket]))

    def _pass(self, connection: Connection, status: OutcomeStatus, *notices: Notice) -> Done:
        is_left = status is not OutcomeStatus.DUPLICATE
        self.base.advance(connection, OutcomeStatus.PARKED if is_left else status, is_again=True)
        return Finished(outcome=self.base.answer(status), notices=notices, is_news=bool(notices))

    def succeeded(self, connection: Connection) -> Done:
        """Settle what is open of it, and move past it."""
        base, ticket = self.base, self.base.ticket
        seen = gates.look(connection, ticket.projection, ticket.event.event_id)
        notices: tuple[Notice, ...] = ()
        if seen.parked_id is not None:
            parked.unpark(connection, seen.parked_id)
        if seen.failure_id is not None:
            method = ResolutionMethod.MANUAL_REPLAY
            notices, _ = resolved(connection, base.context, base.projection, ticket, seen.failure_id, method, "replay")
        else:
            gates.settle(connection, ticket.projection, ticket.gate, base.projection.order)
        settled.redone(connection, ticket.projection, [ticket.event.event_id])
        base.advance(connection, OutcomeStatus.APPLIED, is_again=True)
        return Finished(outcome=base.answer(OutcomeStatus.APPLIED, attempts=1), notices=notices)

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        """Keep it, or the newest error of it, and move past it."""
        base, ticket = self.base, self.base.ticket
        gates.lock(connection, ticket)
        seen = gates.look(connection, ticket.projection, ticket.event.event_id)
        if seen.parked_id is not None:
            parked.unpark(connection, seen.parked_id)
        failures.undo_claim(connection, ticket)
        failure = None if seen.failure_id is None else failures.locked(connection, seen.failure_id)
        if failure is None:
            written = write_failure(connection, base.context, base.projection, ticket, call)
        else:
            elapsed = max((failure.updated_at - failure.failed_at).total_seconds(), 0.0)
            written = write_attempt(
                connection,
                base.context,
                base.projection,
                ticket,
                failure,
                call,
                elapsed_seconds=elapsed,
                is_probe=False,
                is_claimed=False,
            )
        base.advance(connection, OutcomeStatus.FAILED, is_again=True)
        return Finished(
            outcome=base.answer(OutcomeStatus.FAILED, attempts=1),
            notices=written.notices,
            wake_seconds=written.delay_seconds,
        )

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        """Look whether the replay's row is ours still, and whether it is past the event already."""
        ended = self.base.still_mine(connection, was_mine=was_mine)
        if ended is None:
            gates.lock(connection, self.base.ticket)
        return ended

    def give_back(self, connection: Connection) -> None:
        """Leave it in the log: nothing was counted."""

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Keep the lease on the replay's row while an apart handler runs."""
        return self.base.renewing()
