"""One event by itself where a read model is built beside the live one; and what failed there, at the exchange.

What fails there, and what waits behind it, is set aside with the job. The live projection knows nothing of it until the
two are exchanged: in that transaction it becomes failed and parked.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from .._instruments import Delivery
from .._model import OutcomeStatus, Replay, ResolutionMethod
from .._notices import Notice
from .._policy import decide
from .._store import failures, gates, left_out, parked, replays, set_aside, settled, shadows, states
from ..errors import RebuildRefused
from .attempting import Done
from .course import Beside
from .healing import Finished
from .keeping import FailedCall, write_brought
from .lone import LoneEvent
from .projection import Projection
from .sorting import set_aside_more, sort_beside

__all__ = ["BuiltEvent", "Settled", "settle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEvent:
    """An `attempting.Job`. One failure more than the job allows is a `RebuildRefused`, and nothing is written of it."""

    base: LoneEvent
    beside: Beside

    @property
    def what(self) -> str:
        """Name it in an error."""
        return f"{self.base.projection.name}: building event {self.base.incoming.record.event_id!r} is not on record"

    def delivery(self, event: object) -> Delivery:
        """Say what is tried, for who watches."""
        return self.base.delivery(event)

    def prepare(self, connection: Connection) -> Done | None:
        """Hold the job's row; let wait what has to, else lend the names of the tables."""
        base = self.base
        stopped = self._stopped(connection)
        if stopped is not None:
            return stopped
        todo = sort_beside(connection, base.projection, self.beside, [base.incoming])
        if not todo.calls:
            set_aside_more(connection, base.projection, self.beside, todo, base.incoming.sequence)
            return self._passed(connection, OutcomeStatus.PARKED if todo.parks else OutcomeStatus.IGNORED)
        shadows.lend(connection, self.beside.into, base.projection.tables)
        return None

    def _stopped(self, connection: Connection) -> Done | None:
        base = self.base
        held = base.context.follow.hold_here(
            connection, base.projection.name, token=base.token, lease_seconds=base.context.lease_seconds
        )
        is_held_up = held.is_held_up and not self.beside.is_copy
        if base.incoming.partition not in held.cursors or held.state not in base.states or is_held_up:
            return Finished(outcome=base.answer(OutcomeStatus.DEFERRED), is_news=False)
        if held.cursors[base.incoming.partition] >= base.incoming.sequence:
            return Finished(outcome=base.answer(OutcomeStatus.DUPLICATE), is_news=False)
        return None

    def _passed(self, connection: Connection, status: OutcomeStatus, attempts: int = 0) -> Done:
        self.base.advance(connection, status, is_again=True)
        return Finished(outcome=self.base.answer(status, attempts=attempts))

    def succeeded(self, connection: Connection) -> Done:
        """Give the names back, and move past it."""
        self._give_names_back(connection)
        return self._passed(connection, OutcomeStatus.APPLIED, 1)

    def _give_names_back(self, connection: Connection) -> None:
        shadows.give_back(connection, self.beside.into, self.base.projection.tables)
        if self.beside.mends:
            left_out.take_back(connection, self.beside.job, [self.base.incoming.sequence])

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        """Set it aside and move past it, if one more may fail. Raises `RebuildRefused`."""
        base, ticket = self.base, self.base.ticket
        self._give_names_back(connection)
        if self.beside.is_copy and left_out.is_by_hand(connection, base.projection.name, ticket):
            left_out.pass_by(connection, self.beside.job, [ticket], left_out.BY_HAND)
            return self._passed(connection, OutcomeStatus.IGNORED, 1)
        job = replays.one(connection, self.beside.job)
        if job is None or job.events_failed >= job.max_failures:
            raise self._refused(call.error, job) from call.error
        verdict = decide(base.projection.retry, call.error, retry_count=0, attempts=1)
        set_aside.keep(connection, self.beside.job, ticket, call.described, verdict)
        return self._passed(connection, OutcomeStatus.FAILED, 1)

    def _refused(self, error: Exception, job: Replay | None) -> RebuildRefused:
        incoming, name = self.base.incoming, self.base.projection.name
        before = ""
        if job is not None and job.max_failures:
            before = f"; {job.events_failed} had failed before, and max_failures is {job.max_failures}"
        return RebuildRefused(
            f"{name}: event {incoming.record.event_id!r} (sequence {incoming.sequence}) failed beside the live read "
            f"model: {type(error).__name__}{before}"
        )

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        """Look whether the job's row is ours still, and whether it is past the event already."""
        del was_mine  # what this very attempt has committed shows in the cursor
        return self._stopped(connection)

    def give_back(self, connection: Connection) -> None:
        """Leave it in the log: nothing was counted."""

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Keep the lease while a handler runs outside a transaction, which none does here."""
        return self.base.renewing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the exchange did to a projection's failures: so many are new, so many ended; and what to tell."""

    new: int
    ended: int
    notices: list[Notice]


def settle(connection: Connection, projection: Projection, job: UUID) -> Settled:
    """Let be failed and parked what is so in the new read model, and nothing else. The projection stands still.

    What was open before was applied there, or it is open once more: then its old failure has ended with the old model.
    Count the failures last.
    """
    name = projection.name
    parked.clear(connection, name)
    ended = set_aside.forget_before(connection, job, name, "rebuild")
    settled.redone_all(connection, name)
    ended += failures.resolve_all(connection, name, ResolutionMethod.MANUAL_REPLAY, "rebuild")
    states.forget_gates(connection, name)
    failed = set_aside.failed(connection, job, name)
    tickets = {each.ticket.gate: each.ticket for each in failed}
    for gate in sorted(tickets):
        gates.lock(connection, tickets[gate])
    notices: list[Notice] = []
    for each in failed:
        notices += write_brought(connection, projection, each.ticket, each.error, each.verdict)
    set_aside.park_all(connection, job, name)
    for gate in sorted(tickets):
        gates.settle(connection, name, gate, projection.order)
    set_aside.clear(connection, job)
    return Settled(new=len(failed), ended=ended, notices=notices)
