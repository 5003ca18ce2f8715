"""A stretch of the log and an apart handler: the calls first, then one transaction that records what they came to.

Only the calls are the handler's. Where the store does not take the record, it is kept and tried again before anything
else; the calls are not made again for that by this process.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from .._instruments import Watching
from .._io.protocol import Call, Ran
from .._model import Outcome, OutcomeStatus
from .._notices import Notice
from .._store.steps import Held
from .answering import answer
from .context import transact
from .keeping import FailedCall, failed_call_of_log
from .log import Incoming, Stretch
from .lone import lease_renewal, taint_overrun
from .sorting import Sorted
from .stand import LONGEST_STRETCH_SECONDS, Stand

__all__ = ["Unsettled", "apply_apart"]


async def apply_apart(stand: Stand, stretch: Stretch) -> tuple[Held | None, Unsettled | None]:
    """Call an apart handler for a stretch. Returns what was held, and what is to be recorded now.

    Cancelled between two calls, what was called is recorded first.
    """

    def prepare(connection: Connection) -> tuple[Held, Sorted]:
        held = stand.give_up_unread(connection, stand.hold_here(connection), stretch)
        if not held.cursors or not stand.may_walk(held):
            return held, Sorted()
        return held, stand.sort(connection, held=held, stretch=stretch)

    held, todo = await transact(stand.context, prepare, what=stand.what)
    if not stand.may_go_on(held):
        return None, None
    if todo.alone:
        stand.alone.update(event.sequence for event in todo.alone)
        return held, None
    ran, watch = Ran(), stand.watch(todo.calls)
    call = stand.projection.call(abandonable=True, watch=watch)
    work = _call(stand, todo, ran, call)
    try:
        error = await (work if stand.context.io.interrupts(call) else stand.context.io.shielded(work))
    except BaseException:
        with suppress(Exception):
            done = Unsettled(stand=stand, stretch=stretch, todo=todo, ran=ran, watch=watch)
            await stand.context.io.shielded(done.settle())
        raise
    if error is not None and stand.projection.batch is not None and len(todo.calls) > 1:
        stand.alone.update(event.sequence for event in todo.calls)  # which of them it was cannot be told
        return held, None
    return held, Unsettled(stand=stand, stretch=stretch, todo=todo, ran=ran, watch=watch, error=error)


async def _call(stand: Stand, todo: Sorted, ran: Ran, call: Call) -> Exception | None:
    try:
        async with lease_renewal(stand.context, stand.projection, stand.token):
            with stand.calling(todo, ran) as given:
                if todo.calls:
                    await stand.context.io.call_each(call, given, ran, seconds=LONGEST_STRETCH_SECONDS)
    except Exception as error:
        return error
    return None


@dataclass(slots=True, kw_only=True)
class Unsettled:
    """Calls that were made and are not on record yet: those that went well, and the one that failed, if any."""

    stand: Stand
    stretch: Stretch
    todo: Sorted
    ran: Ran
    watch: Watching
    error: Exception | None = None
    _failed: FailedCall | None = None
    _notices: list[Notice] = field(default_factory=list[Notice])
    _wake_seconds: float | None = None

    async def settle(self) -> None:
        """Record them, tried until the store takes it; raises `StoreUnavailable` where it does not."""
        stand, failing = self.stand, self._failing
        if failing is not None and self.error is not None and self._failed is None:
            ticket = stand.projection.lone_ticket(failing.record)
            trace = self.watch.failed(self.error)
            self._failed = failed_call_of_log(stand.context, ticket, failing.as_logged, self.error, trace)
        what = f"{stand.projection.name}: apart calls were made that are not on record"
        is_ours = await transact(stand.context, self._write, what=what)
        if not is_ours:
            stand.forget()
            return
        stand.came_to(self._position, self._hand)
        stand.count(self.todo.calls[: self.ran.done], self.todo.parks, self._position, self.watch)
        stand.counts.failed += failing is not None
        stand.context.tell(self._notices)
        if failing is not None:
            self.watch.settled(self._outcome(failing), at=self.ran.done)
        if self._wake_seconds is not None:
            stand.context.wake(self._wake_seconds)

    def _outcome(self, failing: Incoming) -> Outcome:
        failure_id = next((notice.failure_id for notice in self._notices if notice.failure_id is not None), None)
        ticket = self.stand.ticket(failing)
        return answer(ticket, OutcomeStatus.FAILED, failure_id=failure_id, attempts=1)

    @property
    def _failing(self) -> Incoming | None:
        return None if self.error is None else self.todo.calls[self.ran.done]

    @property
    def _position(self) -> int:
        failing = self._failing
        return self.stand.position(self.stretch, self.todo, self.ran) if failing is None else failing.sequence

    @property
    def _hand(self) -> tuple[int, int] | None:
        return self.stand.next_hand(self.stretch, self._position, None)

    def _write(self, connection: Connection) -> bool:
        """Write it, once; False where the partitions are somebody else's by now."""
        stand, position, failing = self.stand, self._position, self._failing
        self._notices.clear()
        held = stand.give_up_unread(connection, stand.hold_here(connection), self.stretch)
        for event in self.todo.calls[: self.ran.done + 1]:
            if event.partition not in held.cursors:
                taint_overrun(connection, stand.ticket(event))
        if not held.cursors:
            return False
        if min(held.cursors.values()) >= position:
            return True  # only the reply was lost
        parks = tuple(event for event in self.todo.parks if event.partition in held.cursors)
        self._notices.extend(stand.write_more(connection, self.stretch, replace(self.todo, parks=parks), position))
        if failing is None or self._failed is None or failing.partition not in held.cursors:
            parked = self.todo.parked_up_to(position)
            stand.advance_here(connection, self.stretch, position, self.ran.done, self._hand, parked)
            return True
        if self.ran.done:
            done = self.stretch.up_to(self.todo.calls[self.ran.done - 1].sequence)
            stand.advance_here(connection, done, done.position, self.ran.done, self._hand)
        written = stand.lone(failing, self.stretch, self._hand).failed(connection, self._failed)
        self._notices.extend(written.notices)
        self._wake_seconds = written.wake_seconds
        return True
