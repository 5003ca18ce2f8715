"""A follower: applies what stands in the log to one projection, in the log's order, and nothing twice.

Only who holds a partition's lease applies its events. A stretch of the log is applied in one transaction, optimistically:
no savepoints, one write of the cursors. Where something in it fails, it is rolled back and that event is taken by
itself (`lone`). What a follower has in hand stands in its partitions' rows; who takes one over after an unclean death
takes that range one by one, each attempt written down before the call, so that an event that kills its process becomes
a failure instead of a loop of crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Final

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState
from .._io.protocol import Ran, Transaction
from .._model import EventRecord, Order, Outcome, OutcomeStatus
from .._notices import Notice
from .._store import gates, partitions
from .._store.claims import Settings, Ticket, read_settings, restore_settings
from .._store.partitions import Held, PartitionRow, read_held
from ..errors import HandlerDied
from .attempting import attempt, refuse
from .context import Context, Tries, is_store_error, new_token, transact, unavailable
from .keeping import failed_call_of_log
from .log import EventLog, Incoming, Stretch
from .lone import LoneEvent, lease_renewal, park_behind, taint_overrun
from .projection import Projection
from .sharing import share

__all__ = ["Followed", "Follower"]

_STRETCH: Final = 100
_LONGEST_STRETCH_SECONDS: Final = 0.2
"""A stretch is committed by then at the latest (after the event in hand): others wait for its locks, readers for it."""
_WISH_SECONDS: Final = 5.0
_SAVEPOINT: Final = Bound("SAVEPOINT projection_guard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What a turn of following came to. `position`: the smallest cursor, that of `partitions` that were ours.

    `waits`: why it stopped before the end of the log, if it did.
    """

    projection: str
    partitions: int = 0
    position: int | None = None
    applied: int = 0
    failed: int = 0
    parked: int = 0
    waits: str | None = None

    def plus(self, turn: Followed) -> Followed:
        """Add up two turns; the later one says where it has come to."""
        return replace(
            turn,
            applied=self.applied + turn.applied,
            failed=self.failed + turn.failed,
            parked=self.parked + turn.parked,
        )

    def at(self, position: int) -> Followed:
        """Say where the whole projection has come to."""
        return replace(self, position=position)


@dataclass(slots=True)
class _Counts:
    applied: int = 0
    failed: int = 0
    parked: int = 0

    def add(self, outcome: Outcome) -> None:
        self.applied += outcome.status is OutcomeStatus.APPLIED
        self.failed += outcome.status is OutcomeStatus.FAILED
        self.parked += outcome.status is OutcomeStatus.PARKED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """The events of a stretch by what is to become of them, each list in the log's order."""

    calls: tuple[Incoming, ...]
    parks: tuple[Incoming, ...]

    def given(self, projection: Projection) -> Sequence[object]:
        return projection.given_each([incoming.event for incoming in self.calls])


class Follower:
    """Follows the log for one projection. Not to be used by two at once; two followers share by their leases."""

    def __init__(self, context: Context, projection: Projection, log: EventLog) -> None:
        self._context = context
        self._projection = projection
        self._log = log
        self._token = new_token()
        self._cursors: dict[int, int] = {}
        self._hand: tuple[int, int] | None = None
        self._careful_until = 0
        """Up to there events are taken one by one, each attempt written down before: somebody died among them."""
        self._died_at: dict[int, int] = {}
        """By partition: the event at which somebody died who had taken it by itself."""
        self._alone: set[int] = set()
        """Events that failed in a stretch, to be taken by themselves."""
        self._unsettled: Callable[[Connection], bool] | None = None
        self._ahead: Stretch | None = None
        self._waits: str | None = None

    # -- one turn

    async def follow(self, *, stops: Callable[[], bool], until: int | None = None) -> Followed:
        """Apply what is in the log, to its end or to `until`; the partitions stay ours for the lease.

        Raises `SourceError`, `StoreUnavailable`; whatever was committed by then stands.
        """
        counts = _Counts()
        self._waits = None
        self._ahead = None
        await self._settle_late()
        await self._share()
        while self._cursors and not stops():
            if not await self._step(counts, until):
                break
        await self._empty_hand()
        position = min(self._cursors.values()) if self._cursors else None
        return Followed(
            projection=self._projection.name,
            partitions=len(self._cursors),
            position=position,
            applied=counts.applied,
            failed=counts.failed,
            parked=counts.parked,
            waits=self._waits,
        )

    async def leave(self) -> None:
        """Give all partitions up at once, so that others go on without waiting for the lease to end."""
        projection, token = self._projection.name, self._token

        def write(connection: Connection) -> None:
            mine = [row.partition for row in partitions.rows(connection, projection) if row.owner == token]
            partitions.release(connection, projection, token, mine)
            partitions.forget_wishes(connection, projection, token)

        self._forget()
        await transact(self._context, write, what=f"{projection}: following was not given up", seconds=5.0)

    def _forget(self) -> None:
        self._cursors, self._hand, self._ahead = {}, None, None

    async def _share(self) -> None:
        """Take our share of the partitions, prolong what is ours, ask for what is missing, give what is asked for."""
        projection, token, lease = self._projection.name, self._token, self._context.lease_seconds

        def write(connection: Connection) -> tuple[list[PartitionRow], list[int]]:
            rows = partitions.rows(connection, projection)
            plan = share(rows, token)
            if plan.give:
                partitions.release(connection, projection, token, plan.give)
            taken = partitions.take(connection, projection, token, plan.keep, lease)
            for each in plan.want:
                partitions.want(connection, projection, token, each, _WISH_SECONDS)
            return rows, taken

        rows, taken = await transact(self._context, write, what=f"{projection}: following was not begun")
        for row in rows:
            if row.partition in taken and row.partition not in self._cursors:
                self._take_over(row)
        cursors = {row.partition: row.cursor for row in rows if row.partition in taken}
        if cursors != self._cursors:
            self._ahead = None
        self._cursors = cursors

    def _take_over(self, row: PartitionRow) -> None:
        if row.hand_first is None or row.hand_last is None or row.owner == self._token:
            return
        self._careful_until = max(self._careful_until, row.hand_last)
        if row.hand_is_lone:
            self._died_at[row.partition] = row.hand_last

    async def _step(self, counts: _Counts, until: int | None) -> bool:
        """Apply the next stretch; False where there is nothing to do for now."""
        stretch = self._ahead or await self._read(until)
        self._ahead = None
        if stretch.is_empty:
            self._waits = "a hole in the log may still be filled" if stretch.is_held else None
            return False
        lone = next((event for event in stretch.events if self._is_alone(event)), None)
        if lone is not None and lone is not stretch.events[0]:
            before = stretch.events[stretch.events.index(lone) - 1]
            stretch, lone = stretch.up_to(before.sequence), None
        if lone is not None:
            return await self._one(stretch, lone, counts)
        return await self._stretch(stretch, counts, until)

    def _is_alone(self, event: Incoming) -> bool:
        return event.sequence <= self._careful_until or event.sequence in self._alone or event.error is not None

    async def _read(self, until: int | None, cursors: dict[int, int] | None = None) -> Stretch:
        limit = self._projection.batch or _STRETCH
        return await self._log.stretch(self._projection, cursors or self._cursors, limit=limit, until=until)

    async def _stretch(self, stretch: Stretch, counts: _Counts, until: int | None) -> bool:
        """Apply a stretch as a whole, after saying that it is in hand; and read on while that costs nobody time."""
        await self._take_in_hand(stretch)
        following = None
        if stretch.is_full and self._projection.joins:
            cursors = {partition: max(cursor, stretch.position) for partition, cursor in self._cursors.items()}
            following = await self._read(until, cursors)
        if not stretch.events:
            return await self._pass_over(stretch, following)
        if self._projection.joins:
            return await self._joined(stretch, following, counts)
        return await self._apart(stretch, counts)

    # -- what is in hand

    async def _take_in_hand(self, stretch: Stretch) -> None:
        hand = (stretch.after + 1, stretch.position)
        if stretch.events and (self._hand is None or not self._hand[0] <= hand[0] <= hand[1] <= self._hand[1]):
            await self._say_in_hand(hand)

    async def _empty_hand(self) -> None:
        if self._hand is not None and self._cursors:
            await self._say_in_hand(None)

    async def _say_in_hand(self, hand: tuple[int, int] | None) -> None:
        statements = self._context.follow.take_hand(
            self._projection.name, token=self._token, lease_seconds=self._context.lease_seconds, hand=hand
        )
        tries = Tries(self._context.io)
        while True:
            try:
                rows = (await self._context.io.once(statements))[-1]
            except Exception as error:
                if not is_store_error(error) or not tries.may_redo(error):
                    raise unavailable(f"{self._projection.name}: following", error) from error
                await tries.pause()
            else:
                self._hand = hand
                if not rows:
                    self._forget()
                return

    def _next_hand(self, stretch: Stretch, position: int, following: Stretch | None) -> tuple[int, int] | None:
        if position < stretch.position:
            return position + 1, stretch.position
        if following is not None and following.events:
            return position + 1, following.position
        return None

    def _came_to(self, position: int, hand: tuple[int, int] | None) -> None:
        self._cursors = {partition: max(cursor, position) for partition, cursor in self._cursors.items()}
        self._hand = hand
        self._alone = {sequence for sequence in self._alone if sequence > position}

    # -- a stretch in which nothing is for this projection

    async def _pass_over(self, stretch: Stretch, following: Stretch | None) -> bool:
        hand = self._next_hand(stretch, stretch.position, following)

        def write(connection: Connection) -> Held:
            held = self._hold_here(connection)
            if held.cursors and held.flows:
                self._record_skipped(connection, stretch, stretch.position)
                self._advance_here(connection, stretch, stretch.position, 0, hand)
            return held

        held = await transact(self._context, write, what=f"{self._projection.name}: following")
        if not self._may_go_on(held):
            return False
        self._came_to(stretch.position, hand)
        self._ahead = following
        return await self._give_what_is_wanted(held)

    def _hold_here(self, connection: Connection) -> Held:
        return self._context.follow.hold_here(
            connection, self._projection.name, token=self._token, lease_seconds=self._context.lease_seconds
        )

    def _advance_here(
        self, connection: Connection, stretch: Stretch, position: int, applied: int, hand: tuple[int, int] | None
    ) -> None:
        self._context.follow.advance_here(
            connection,
            self._projection.name,
            token=self._token,
            lease_seconds=self._context.lease_seconds,
            position=position,
            last=_last(stretch, position),
            applied=applied,
            hand=hand,
        )

    def _record_skipped(self, connection: Connection, stretch: Stretch, position: int) -> None:
        for hole in stretch.skipped:
            if hole.last <= position:
                partitions.record_skipped(
                    connection,
                    self._projection.name,
                    first=hole.first,
                    last=hole.last,
                    reason=hole.reason,
                    given_up=hole.is_given_up,
                )

    def _may_go_on(self, held: Held) -> bool:
        """Return False where the partitions are gone, or the projection stands still."""
        if held.cursors.keys() != self._cursors.keys():
            self._ahead = None
        self._cursors = {p: max(cursor, self._cursors.get(p, 0)) for p, cursor in held.cursors.items()}
        if not held.cursors:
            self._forget()
            return False
        if not held.flows:
            self._waits = "held by the breaker" if held.is_held_up else held.state
            return False
        if self._projection.order is Order.GLOBAL and held.has_blocked:
            self._waits = "a failure holds the whole projection"
            return False
        return True

    async def _give_what_is_wanted(self, held: Held) -> bool:
        if held.is_wanted:
            self._ahead = None
            await self._share()
        return bool(self._cursors)

    # -- joined

    async def _joined(self, stretch: Stretch, following: Stretch | None, counts: _Counts) -> bool:
        tries = Tries(self._context.io)
        while True:
            goes_on = await self._joined_once(stretch, following, counts, tries)
            if goes_on is not None:
                return goes_on
            await tries.pause()

    async def _joined_once(
        self, stretch: Stretch, following: Stretch | None, counts: _Counts, tries: Tries
    ) -> bool | None:
        """Apply a stretch in one transaction; None asks for all of it again."""
        ran = Ran()
        transaction = await self._context.io.begin()
        try:
            try:
                held, settings = await self._hold(transaction)
                if not self._may_go_on(held):
                    return False
                todo = await transaction.run(partial(self._sort, held=held, stretch=stretch))
            except Exception as refused:
                if not is_store_error(refused):
                    raise
                if tries.may_redo(refused):
                    return None
                raise unavailable(f"{self._projection.name}: following", refused) from refused
            error = await self._call_joined(transaction, todo, ran)
            if error is None and transaction.state is TransactionState.OPEN:
                error = await self._finish(transaction, stretch, following, todo, ran, settings)
                if error is None:
                    self._count(counts, todo, self._position(stretch, todo, ran))
                    return await self._give_what_is_wanted(held)
                ran.done = len(todo.calls)
            if transaction.state is not TransactionState.OPEN and error is not None and tries.may_redo(error):
                return None
        finally:
            await transaction.close()
        self._take_alone(todo, ran, error)
        return True

    async def _hold(self, transaction: Transaction) -> tuple[Held, Settings]:
        preamble = self._context.hot.preamble(limit_seconds=self._projection.timeout_seconds)
        hold = self._context.follow.hold(
            self._projection.name, token=self._token, lease_seconds=self._context.lease_seconds
        )
        results = await transaction.together([*preamble, *hold, _SAVEPOINT])
        return read_held(results[:-1]), read_settings(results[: len(preamble)])

    def _sort(self, connection: Connection, *, held: Held, stretch: Stretch) -> _Sorted:
        """Say what becomes of the events of a stretch: called, parked behind what is unresolved, on record already.

        A stream that is blocked is held before that is believed: the drain may be ending the block right now.
        """
        name = self._projection.name
        events = [
            event for event in stretch.events if held.cursors.get(event.partition, event.sequence) < event.sequence
        ]
        if events and events[0].sequence <= held.rescan_until:
            known = partitions.known(connection, name, [event.record.event_id for event in events])
            events = [event for event in events if event.record.event_id not in known]
            self._taint_overtaken(connection, held, events)
        if not held.has_blocked or self._projection.order is not Order.STREAM:
            return _Sorted(calls=tuple(events), parks=())
        tickets = {event.record.event_id: self._projection.lone_ticket(event.record) for event in events}
        blocked = gates.blocked_among(connection, name, sorted({ticket.gate for ticket in tickets.values()}))
        really = {gate for gate in sorted(blocked) if gates.lock_if_there(connection, _gate_of(tickets, gate))}
        parks = tuple(event for event in events if tickets[event.record.event_id].gate in really)
        calls = tuple(event for event in events if tickets[event.record.event_id].gate not in really)
        return _Sorted(calls=calls, parks=parks)

    def _taint_overtaken(self, connection: Connection, held: Held, events: Sequence[Incoming]) -> None:
        """While the projection was pushed an event was missed, and a later one of its stream applied: say so."""
        for event in events:
            if event.sequence > held.rescan_until or self._projection.order is not Order.STREAM:
                break
            ticket = self._projection.lone_ticket(event.record)
            if partitions.applied_beyond(connection, self._projection.name, ticket.gate, event.sequence):
                gates.lock(connection, ticket)
                gates.taint(
                    connection,
                    self._projection.name,
                    ticket.gate,
                    "an event was missed before, and comes after later ones",
                )

    async def _call_joined(self, transaction: Transaction, todo: _Sorted, ran: Ran) -> Exception | None:
        started = perf_counter()
        call = self._projection.call(abandonable=True)
        try:
            if todo.calls:
                await transaction.call_each(call, todo.given(self._projection), ran, seconds=_LONGEST_STRETCH_SECONDS)
        except Exception as error:
            return error
        finally:
            if self._projection.batch is not None and ran.done:
                ran.done = len(todo.calls)
            if ran.done:
                milliseconds = (perf_counter() - started) * 1000
                self._context.timings.add(self._projection.name, milliseconds, ran.done)
        return None

    def _position(self, stretch: Stretch, todo: _Sorted, ran: Ran) -> int:
        """Return how far the calls have come: where they ended early, to the last one that was made."""
        return stretch.position if ran.done >= len(todo.calls) else todo.calls[ran.done].sequence - 1

    async def _finish(
        self,
        transaction: Transaction,
        stretch: Stretch,
        following: Stretch | None,
        todo: _Sorted,
        ran: Ran,
        settings: Settings,
    ) -> Exception | None:
        """Park what has to wait, move the cursors, commit; return what kept us from it."""
        position = self._position(stretch, todo, ran)
        hand = self._next_hand(stretch, position, following)
        notices: list[Notice] = []

        def park(connection: Connection) -> None:
            restore_settings(connection, settings)
            notices.extend(self._park(connection, todo, position))
            self._record_skipped(connection, stretch, position)

        ends = self._context.follow.advance(
            self._projection.name,
            token=self._token,
            lease_seconds=self._context.lease_seconds,
            position=position,
            last=_last(stretch, position),
            applied=ran.done,
            hand=hand,
        )
        try:
            if todo.parks or stretch.skipped:
                await transaction.run(park)
            await transaction.release_and_commit([*self._context.hot.restore(settings), *ends])
        except Exception as error:
            return error
        self._came_to(position, hand)
        self._ahead = following if position >= stretch.position else stretch.beyond(position)
        self._context.tell(notices)
        return None

    def _park(self, connection: Connection, todo: _Sorted, position: int) -> list[Notice]:
        return [
            park_behind(connection, self._projection, self._projection.lone_ticket(event.record))
            for event in todo.parks
            if event.sequence <= position
        ]

    def _count(self, counts: _Counts, todo: _Sorted, position: int) -> None:
        counts.applied += sum(event.sequence <= position for event in todo.calls)
        counts.parked += sum(event.sequence <= position for event in todo.parks)

    def _take_alone(self, todo: _Sorted, ran: Ran, error: Exception | None) -> None:
        """Take the event that failed by itself; all of them, where it cannot be told which one it was."""
        is_told = error is not None and ran.done < len(todo.calls) and self._projection.batch is None
        if is_told:
            self._alone.add(todo.calls[ran.done].sequence)
        else:
            self._alone.update(event.sequence for event in todo.calls)

    # -- apart

    async def _apart(self, stretch: Stretch, counts: _Counts) -> bool:
        """Call an apart handler for a stretch, and then record what it came to: for all that ran, and once."""
        name = self._projection.name
        held, todo = await transact(
            self._context, partial(self._prepare_apart, stretch=stretch), what=f"{name}: following"
        )
        if not self._may_go_on(held):
            return False
        ran, call = Ran(), self._projection.call(abandonable=True)
        work = self._call_apart(todo, ran)
        error: Exception | None = None
        try:
            error = await (work if self._context.io.interrupts(call) else self._context.io.shielded(work))
        except BaseException:
            with suppress(Exception):
                await self._context.io.shielded(self._settle(stretch, todo, ran, None, counts))
            raise
        await self._context.io.shielded(self._settle(stretch, todo, ran, error, counts))
        return await self._give_what_is_wanted(held)

    def _prepare_apart(self, connection: Connection, *, stretch: Stretch) -> tuple[Held, _Sorted]:
        held = self._hold_here(connection)
        if not held.cursors or not held.flows:
            return held, _Sorted(calls=(), parks=())
        return held, self._sort(connection, held=held, stretch=stretch)

    async def _call_apart(self, todo: _Sorted, ran: Ran) -> Exception | None:
        call, started = self._projection.call(abandonable=True), perf_counter()
        try:
            async with lease_renewal(self._context, self._projection, self._token):
                if todo.calls:
                    await self._context.io.call_each(
                        call, todo.given(self._projection), ran, seconds=_LONGEST_STRETCH_SECONDS
                    )
        except Exception as error:
            return error
        finally:
            if self._projection.batch is not None and ran.done:
                ran.done = len(todo.calls)
            if ran.done:
                milliseconds = (perf_counter() - started) * 1000
                self._context.timings.add(self._projection.name, milliseconds, ran.done)
        return None

    async def _settle(
        self, stretch: Stretch, todo: _Sorted, ran: Ran, error: Exception | None, counts: _Counts
    ) -> None:
        """Record a row of apart calls: those that went well, and the one that failed. Tried until the store takes it."""
        if error is not None and self._projection.batch is not None and len(todo.calls) > 1:
            self._alone.update(event.sequence for event in todo.calls)
            return
        failing = todo.calls[ran.done] if error is not None else None
        position = failing.sequence if failing is not None else self._position(stretch, todo, ran)
        hand = (position + 1, stretch.position) if position < stretch.position else None
        notices: list[Notice] = []
        wakes: list[float] = []
        call = None if error is None or failing is None else failed_call_of_log(self._context, failing.event, error)

        def write(connection: Connection) -> bool:
            notices.clear()
            held = self._hold_here(connection)
            if not held.cursors:
                for event in todo.calls[: ran.done + 1]:
                    taint_overrun(connection, self._projection.lone_ticket(event.record))
                return False
            if max(held.cursors.values()) >= position:
                return True  # only the reply was lost
            notices.extend(self._park(connection, todo, position))
            self._record_skipped(connection, stretch, position)
            if failing is None or call is None:
                self._advance_here(connection, stretch, position, ran.done, hand)
                return True
            if ran.done:
                done = stretch.up_to(todo.calls[ran.done - 1].sequence)
                self._advance_here(connection, done, done.position, ran.done, hand)
            written = self._lone(failing, hand).failed(connection, call)
            notices.extend(written.notices)
            wakes.extend([] if written.wake_seconds is None else [written.wake_seconds])
            return True

        self._unsettled = write
        await self._settle_late()
        if self._cursors:
            self._came_to(position, hand)
        self._count(counts, _Sorted(calls=todo.calls[: ran.done], parks=todo.parks), position)
        counts.failed += failing is not None
        self._context.tell(notices)
        for seconds in wakes:
            self._context.wake(seconds)

    async def _settle_late(self) -> None:
        """Record what calls came to that the store has not taken yet: they are not made again for that."""
        if self._unsettled is not None:
            what = f"{self._projection.name}: apart calls were made that are not on record"
            is_ours = await transact(self._context, self._unsettled, what=what)
            self._unsettled = None
            if not is_ours:
                self._forget()

    # -- one event by itself

    async def _one(self, stretch: Stretch, event: Incoming, counts: _Counts) -> bool:
        """Take one event by itself, and whatever becomes of it move past it."""
        hand = (event.sequence + 1, stretch.position) if event.sequence < stretch.position else None
        job = self._lone(event, hand)
        died = self._died_at.pop(event.partition, None) == event.sequence
        error = HandlerDied.after(1) if died else event.error
        if error is not None:
            outcome = await refuse(self._context, job, failed_call_of_log(self._context, event.event, error))
        else:
            if event.sequence <= self._careful_until:
                await self._say_alone(event)
            outcome = await attempt(self._context, self._projection, job, event.event)
        counts.add(outcome)
        if outcome.status is OutcomeStatus.DEFERRED:
            await self._share()
            self._waits = "the projection stands still, or another follower has taken over"
            return False
        self._came_to(event.sequence, hand)
        self._ahead = stretch.beyond(event.sequence) if event.sequence < stretch.position else None
        return True

    async def _say_alone(self, event: Incoming) -> None:
        """Write the attempt down before the call: should it kill this process too, the next one knows which it was."""
        hand = (event.sequence, event.sequence)

        def write(connection: Connection) -> bool:
            return partitions.set_hand(
                connection,
                self._projection.name,
                self._token,
                hand,
                is_lone=True,
                lease_seconds=self._context.lease_seconds,
            )

        await transact(self._context, write, what=f"{self._projection.name}: following")
        self._hand = hand

    def _lone(self, event: Incoming, hand: tuple[int, int] | None) -> LoneEvent:
        return LoneEvent(
            context=self._context, projection=self._projection, token=self._token, incoming=event, hand=hand
        )


def _gate_of(tickets: dict[str, Ticket], gate: str) -> Ticket:
    return next(ticket for ticket in tickets.values() if ticket.gate == gate)


def _last(stretch: Stretch, position: int) -> EventRecord | None:
    if position >= stretch.position:
        return stretch.last
    kept = [event for event in stretch.events if event.sequence <= position]
    return kept[-1].record if kept else None
