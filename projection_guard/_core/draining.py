"""Parked events are applied in the order of their arrival, once nothing before them is unresolved.

By a joined handler many are in one transaction (`drain_stretch`); by an apart one, and where that came to nothing, one
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Final

from sqlalchemy import Connection

from .._instruments import Delivery
from .._model import Origin, Outcome, OutcomeStatus
from .._notices import Notice, NoticeKind
from .._store import gates, parked, settled, states
from .._store.claims import Ticket
from .._store.parked import InLine
from ..errors import HandlerDied, SourceError, StoreUnavailable
from .answering import answer
from .apart import renewer
from .attempting import Done, attempt, refuse
from .context import Context, new_token, or_give_back, recall, transact
from .drain_stretch import LONGEST_STRETCH, Line, drain_stretch
from .healing import Finished, unreadable
from .keeping import FailedCall, described_call, write_failure
from .projection import Projection

__all__ = ["drain"]

_TURN_SECONDS: Final = 5.0
"""How long a joined turn is reserved to who took it; his transaction holds the stream by then, or he has died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A parked event whose turn it is: nobody else takes it while `token` is the lease on the stream.

    An apart call holds that lease to its end. A joined one needs it only until its transaction holds the stream.
    """

    context: Context
    projection: Projection
    ticket: Ticket
    head: InLine
    token: str

    @property
    def what(self) -> str:
        return f"{self.projection.name}: applying parked event {self.ticket.event.event_id!r} is not on record"

    def delivery(self, event: object) -> Delivery:
        return Delivery(
            projection=self.projection.name,
            origin=Origin.DRAIN,
            record=self.ticket.event,
            event=event,
            attempt=self.head.attempts + 1,
        )

    def prepare(self, connection: Connection) -> Done | None:
        is_mine = self._holds_lease(connection)
        seen = gates.look(connection, self.ticket.projection, self.ticket.event.event_id)
        flows = seen.flows and not self.projection.is_others(is_followed=seen.is_followed)
        if not is_mine or not flows or seen.parked_id != self.head.id or seen.failure_id is not None:
            self.give_back(connection)
            return Finished(outcome=self._answer(OutcomeStatus.PARKED), is_news=False)
        return None if seen.done is None else self._leave(connection, OutcomeStatus.DUPLICATE)

    def give_back(self, connection: Connection) -> None:
        _give_back(connection, projection=self.projection, gate=self.ticket.gate, token=self.token)

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        del was_mine  # whoever takes a stream over whose lease ran out taints it
        is_mine = self._holds_lease(connection)
        seen = gates.look(connection, self.ticket.projection, self.ticket.event.event_id)
        if seen.parked_id == self.head.id and seen.done is None and seen.failure_id is None:
            if not is_mine and not self.projection.joins:
                gates.taint(connection, self.ticket.projection, self.ticket.gate, "the lease of a drain ran out")
            return None
        self._settle(connection)
        return Finished(outcome=self._answer(OutcomeStatus.DUPLICATE), is_news=False)

    def succeeded(self, connection: Connection) -> Done:
        settled.record(connection, self.ticket)
        return self._leave(connection, OutcomeStatus.APPLIED)

    def _leave(self, connection: Connection, status: OutcomeStatus) -> Done:
        parked.unpark(connection, self.head.id)
        self._settle(connection)
        notice = Notice(
            kind=NoticeKind.DRAINED,
            projection=self.projection.name,
            event_id=self.ticket.event.event_id,
            event_type=self.ticket.event.event_type,
            stream_id=self.ticket.event.stream_id,
        )
        return Finished(outcome=self._answer(status), notices=(notice,))

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        parked.unpark(connection, self.head.id)
        written = write_failure(
            connection,
            self.context,
            self.projection,
            self.ticket,
            replace(call, payload=self.head.payload),
            retry_count=self.head.attempts,
            free=self._holds_lease(connection),
        )
        outcome = answer(
            self.ticket, OutcomeStatus.FAILED, failure_id=written.failure_id, attempts=self.head.attempts + 1
        )
        return Finished(outcome=outcome, notices=written.notices, wake_seconds=written.delay_seconds)

    def _holds_lease(self, connection: Connection) -> bool:
        return gates.lock(connection, self.ticket).lease_owner == self.token

    def _settle(self, connection: Connection) -> None:
        free = self._holds_lease(connection)
        gates.settle(connection, self.ticket.projection, self.ticket.gate, self.projection.order, free=free)

    def renewing(self) -> AbstractAsyncContextManager[None]:
        renew = renewer(self.context, self.ticket, self.token)
        return self.context.io.renewing(renew, self.context.lease_seconds / 3)

    def _answer(self, status: OutcomeStatus) -> Outcome:
        return answer(self.ticket, status, attempts=self.head.attempts + 1)


async def drain(context: Context, projection: Projection, gate: str, *, limit: int) -> int:
    """Apply up to `limit` parked events of one stream, in order; return how many left the line.

    Stops at the first that fails: it becomes a failure, and the rest waits behind it. A stream that somebody else
    drains is left to him.
    """
    left = 0
    for _ in range(2 * limit):  # a stretch that came to nothing leaves the line as long as it was
        if left >= limit:
            break
        token = new_token() if not projection.joins else gates.TURN + new_token()
        what = f"{projection.name}: a parked stream was not drained"
        take = partial(_next, context=context, projection=projection, gate=gate, token=token, limit=limit - left)
        taking = transact(context, take, what=what)
        back = partial(_give_back, projection=projection, gate=gate, token=token)
        heads = await or_give_back(context, taking, back, what=what)
        if len(heads) > 1:
            drained = await drain_stretch(context, projection, Line(gate=gate, token=token, heads=heads))
            if drained is None:
                break
            left += drained
            continue
        if not heads:
            break
        outcome = await _take_turn(context, projection, gate, heads[0], token)
        if outcome.status is OutcomeStatus.PARKED:
            break
        left += 1
        if outcome.status is OutcomeStatus.FAILED:
            break
    return left


def _next(
    connection: Connection, *, context: Context, projection: Projection, gate: str, token: str, limit: int
) -> Sequence[InLine]:
    """Take the head of the line and count its attempt before it is made, or several and mark them; or none."""
    held = gates.lock_free(connection, projection.name, gate)
    if held is None or (held.is_leased and held.lease_owner != token):
        return ()
    state = states.read(connection, projection.name)
    if state is None or state.state != "active" or state.held_since is not None:
        return ()
    if projection.is_others(is_followed=state.mode == "followed"):
        return ()
    by_sequence = projection.is_followed
    line = parked.first(connection, projection.name, gate, by_sequence=by_sequence)
    if not line:
        gates.settle(connection, projection.name, gate, projection.order)
        return ()
    failure = gates.first_failure(connection, projection.name, gate, projection.order)
    if not line[0].precedes(failure, by_sequence=by_sequence):
        return ()
    is_again = held.lease_owner == token  # the reply to this very claim was lost
    if is_again and line[0].attempts:
        return (replace(line[0], attempts=line[0].attempts - 1),)
    seconds = min(_TURN_SECONDS, context.lease_seconds) if projection.joins else context.lease_seconds
    gates.lease(connection, projection.name, gate, token=token, lease_seconds=seconds)
    if projection.joins and line[0].is_fresh and limit > 1:
        most = min(limit, LONGEST_STRETCH, projection.batch or LONGEST_STRETCH)
        more = parked.first(connection, projection.name, gate, by_sequence=by_sequence, limit=most)
        fresh = tuple(takewhile(lambda each: each.is_fresh and each.precedes(failure, by_sequence=by_sequence), more))
        if len(fresh) > 1:
            parked.mark(connection, [head.id for head in fresh])
            return fresh
    parked.count_attempt(connection, line[0].id)
    return line[:1]


def _give_back(connection: Connection, *, projection: Projection, gate: str, token: str) -> None:
    """End a turn that came to nothing, and take its count back, if it is ours still."""
    if gates.release(connection, projection.name, gate, token=token):
        for head in parked.first(connection, projection.name, gate, by_sequence=projection.is_followed):
            parked.give_back(connection, head.id)


async def _take_turn(context: Context, projection: Projection, gate: str, head: InLine, token: str) -> Outcome:
    ticket = Ticket(projection=projection.name, gate=gate, event=head.event)
    turn = _Turn(context=context, projection=projection, ticket=ticket, head=head, token=token)
    error: Exception | None = None
    event: object = None
    if head.attempts > projection.retry.max_retries:
        error = HandlerDied.after(head.attempts)
    else:
        try:
            event = await recall(context, ticket, head.payload, amended=head.amended)
        except (SourceError, StoreUnavailable):
            await transact(context, turn.give_back, what=turn.what)
            raise
        except Exception as refused:
            error = unreadable(refused)
    if error is None:
        return await attempt(context, projection, turn, event)
    return await refuse(context, turn, described_call(error, None))
