"""Where a follower stands: his partitions and their cursors, what he has in hand, and how he moves on.

`following` walks with it, `joined_stretch` and `apart_stretch` apply what it reads. A replay stands on a row of its own
beside the partitions (`REPLAY`), so that it has a cursor, a lease and a range in hand like everybody else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final

from sqlalchemy import Connection

from .._dialect import Bound
from .._instruments import Delivery, Watching, watching
from .._io.protocol import Ran
from .._model import EventRecord, Order, Origin, Outcome, OutcomeStatus
from .._notices import Notice, NoticeKind
from .._source import key_of
from .._store import gates, partitions, settled, shadows, slices
from .._store.claims import Ticket
from .._store.steps import Held, Step
from .attempting import Job
from .built import BuiltEvent
from .context import Context, new_token
from .course import HELD_BY_A_FAILURE, Again, Course
from .log import Incoming, Stretch, count_up_to
from .lone import LoneEvent, park_behind, taint_overtaken
from .projection import Projection
from .replayed import ReplayedEvent
from .sorting import Sorted, set_aside_more, sort_beside

__all__ = ["Counts", "Stand"]

LONGEST_STRETCH_SECONDS: Final = 0.2
"""A stretch is committed by then at the latest (after the event in hand): others wait for its locks, readers for it."""


@dataclass(slots=True)
class Counts:
    """What became of events."""

    applied: int = 0
    failed: int = 0
    parked: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count an event."""
        self.applied += outcome.status is OutcomeStatus.APPLIED
        self.failed += outcome.status is OutcomeStatus.FAILED
        self.parked += outcome.status is OutcomeStatus.PARKED


@dataclass(slots=True, kw_only=True)
class Stand:
    """A follower's place. `alone`: events that failed in a stretch, to be taken by themselves.

    `careful_until`: up to there every event is, each attempt written down before, for somebody died among them;
    `died_at`, by partition: the event at which he died who had taken it by itself.
    """

    context: Context
    projection: Projection
    course: Course
    token: str = field(default_factory=new_token)
    cursors: dict[int, int] = field(default_factory=dict[int, int])
    hand: tuple[int, int] | None = None
    ahead: Stretch | None = None
    waits: str | None = None
    alone: set[int] = field(default_factory=set[int])
    careful_until: int = 0
    died_at: dict[int, int] = field(default_factory=dict[int, int])
    counts: Counts = field(default_factory=Counts)

    @property
    def what(self) -> str:
        """Name it in an error."""
        return f"{self.projection.name}: following"

    def forget(self) -> None:
        """Stand nowhere."""
        self.cursors, self.hand, self.ahead = {}, None, None

    def lose(self) -> None:
        """What was in hand is somebody else's by now, and was refused: say so, and stand nowhere."""
        self.forget()
        self.context.tell([Notice(kind=NoticeKind.FENCED, projection=self.projection.name)])

    # -- reading what is held

    def hold_here(self, connection: Connection) -> Held:
        """Hold the partitions for this transaction."""
        return self.context.follow.hold_here(
            connection, self.projection.name, token=self.token, lease_seconds=self.context.lease_seconds
        )

    def give_up_unread(self, connection: Connection, held: Held, stretch: Stretch) -> Held:
        """Give up partitions that a stretch was not read for, before all that are held are moved past it.

        So it is where a share did not come to our knowledge: nothing of theirs is passed over then.
        """
        lacking = stretch.lacks(held.cursors)
        if not lacking:
            return held
        partitions.release(connection, self.projection.name, self.token, lacking)
        return replace(held, cursors={number: at for number, at in held.cursors.items() if number not in lacking})

    def may_walk(self, held: Held) -> bool:
        """Return whether the projection is in the state for this, and not held by the breaker: no concern of a copy."""
        is_free = not held.is_held_up or (self.course.beside is not None and self.course.beside.is_copy)
        return held.state in self.course.states and is_free

    def may_go_on(self, held: Held) -> bool:
        """Take note of what is held; False where it is gone, or the projection stands still."""
        if held.cursors.keys() != self.cursors.keys():
            self.ahead = None
        self.cursors = {p: max(cursor, self.cursors.get(p, 0)) for p, cursor in held.cursors.items()}
        if not held.cursors:
            self.lose()
            return False
        if not self.may_walk(held):
            self.waits = "held by the breaker" if held.is_held_up else held.state
            return False
        if self.projection.order is Order.GLOBAL and held.has_blocked and self.course.is_counted:
            self.waits = HELD_BY_A_FAILURE
            return False
        return True

    def sort(self, connection: Connection, *, held: Held, stretch: Stretch) -> Sorted:
        """Say what becomes of the events of a stretch: called, parked behind what is unresolved, on record already.

        A stream that is blocked is held before that is believed: the drain may be ending the block right now. A replay
        takes events of blocked streams by themselves.
        """
        events = [
            event for event in stretch.events if held.cursors.get(event.partition, event.sequence) < event.sequence
        ]
        if self.course.beside is not None:
            return sort_beside(connection, self.projection, self.course.beside, events)
        if self.course.again is not None:
            return self._sort_again(connection, held, events, self.course.again)
        if events and events[0].sequence <= held.rescan_until:
            known = partitions.known(connection, self.projection.name, [event.record.event_id for event in events])
            placed = {event.record.event_id: event.sequence for event in events if event.record.event_id in known}
            partitions.place(connection, self.projection.name, placed)
            ahead = slices.ahead(connection, self.projection.name)
            events = [
                event
                for event in events
                if event.record.event_id not in known and not ahead.has(key_of(event.record), event.sequence)
            ]
            self._taint_overtaken(connection, held, events)
        if not held.has_blocked or self.projection.order is not Order.STREAM:
            return Sorted(calls=tuple(events))
        tickets = {event.sequence: self.ticket(event) for event in events}
        blocked = self._blocked(connection, tickets)
        really = {gate for gate in blocked if gates.lock_if_there(connection, _behind(tickets, gate))}
        return Sorted(
            calls=tuple(event for event in events if tickets[event.sequence].gate not in really),
            parks=tuple(event for event in events if tickets[event.sequence].gate in really),
        )

    def _sort_again(self, connection: Connection, held: Held, events: Sequence[Incoming], again: Again) -> Sorted:
        tickets = {event.sequence: self.ticket(event) for event in events}
        blocked = self._blocked(connection, tickets) if held.has_blocked else []
        alone = tuple(event for event in events if tickets[event.sequence].gate in blocked)
        if again.only_open:
            return Sorted(alone=alone)
        return Sorted(calls=tuple(event for event in events if event not in alone), alone=alone)

    def _blocked(self, connection: Connection, tickets: dict[int, Ticket]) -> list[str]:
        wanted = sorted({ticket.gate for ticket in tickets.values()})
        return sorted(gates.blocked_among(connection, self.projection.name, wanted)) if wanted else []

    def _taint_overtaken(self, connection: Connection, held: Held, events: Sequence[Incoming]) -> None:
        """While the projection was pushed an event was missed, and a later one of its stream applied: say so."""
        for event in events:
            if event.sequence > held.rescan_until or self.projection.order is not Order.STREAM:
                break
            taint_overtaken(connection, self.ticket(event), event.sequence)

    def ticket(self, event: Incoming) -> Ticket:
        """Say behind which gate an event belongs."""
        return self.projection.lone_ticket(event.record)

    @contextmanager
    def calling(self, todo: Sorted, ran: Ran) -> Generator[Sequence[object]]:
        """Give what the handler is to be called with; afterwards count and time what was called."""
        started = perf_counter()
        try:
            yield self.projection.given_each([incoming.event for incoming in todo.calls])
        finally:
            if self.projection.batch is not None and ran.done:
                ran.done = len(todo.calls)  # it is called once for all of them
            if ran.done and self.course.beside is None:
                self.context.timings.add(self.projection.name, (perf_counter() - started) * 1000, ran.done)

    # -- moving on

    def position(self, stretch: Stretch, todo: Sorted, ran: Ran) -> int:
        """Return how far a row of calls has come: where it ended early, to the event before the next call.

        That is an event, so that a checkpoint there is able to name it.
        """
        if ran.done >= len(todo.calls):
            return stretch.position
        before = count_up_to(stretch.events, todo.calls[ran.done].sequence - 1)
        return stretch.events[before - 1].sequence if before else stretch.after

    def next_hand(self, stretch: Stretch, position: int, following: Stretch | None) -> tuple[int, int] | None:
        """Return the range that comes next, as far as it is known."""
        if position < stretch.position:
            return position + 1, stretch.position
        if following is not None and following.events:
            return position + 1, following.position
        return None

    def came_to(self, position: int, hand: tuple[int, int] | None) -> None:
        """Note what was committed."""
        self.cursors = {partition: max(cursor, position) for partition, cursor in self.cursors.items()}
        self.hand = hand
        self.alone = {sequence for sequence in self.alone if sequence > position}

    def _step(self, stretch: Stretch, position: int, applied: int, hand: tuple[int, int] | None, passed: int) -> Step:
        return Step(
            token=self.token,
            lease_seconds=self.context.lease_seconds,
            position=position,
            last=_last(stretch, position),
            applied=applied if self.course.is_counted else 0,
            hand=hand,
            job=self.course.job,
            replayed=applied,
            passed=passed,
            failed=0,
        )

    def advance(
        self, stretch: Stretch, position: int, applied: int, hand: tuple[int, int] | None, passed: int
    ) -> list[Bound]:
        """Return the statements that move the cursors."""
        return self.context.follow.advance(self.projection.name, **self._step(stretch, position, applied, hand, passed))

    def advance_here(
        self,
        connection: Connection,
        stretch: Stretch,
        position: int,
        applied: int,
        hand: tuple[int, int] | None,
        passed: int = 0,
    ) -> None:
        """Move the cursors."""
        self.context.follow.advance_here(
            connection, self.projection.name, **self._step(stretch, position, applied, hand, passed)
        )

    def has_more_to_write(self, stretch: Stretch, todo: Sorted) -> bool:
        """Return whether `write_more` has anything to do."""
        return bool(todo.parks or stretch.skipped or not self.course.is_counted)

    def write_more(self, connection: Connection, stretch: Stretch, todo: Sorted, position: int) -> list[Notice]:
        """Write what else a stretch has come to, up to a position: what is parked, holes, skips that are made good."""
        name = self.projection.name
        if self.course.again is not None:  # it parks by itself, and does not judge holes again
            done = [event.record.event_id for event in todo.calls if event.sequence <= position]
            settled.redone(connection, name, done)
            return []
        if self.course.beside is not None:
            set_aside_more(connection, self.projection, self.course.beside, todo, position)
            return []
        waiting = [self.ticket(event) for event in todo.parks if event.sequence <= position]
        for hole in stretch.skipped:
            if hole.last <= position:
                partitions.record_skipped(
                    connection,
                    name,
                    first=hole.first,
                    last=hole.last,
                    reason=hole.reason,
                    given_up=hole.is_given_up,
                )
        return list(park_behind(connection, self.projection, waiting))

    def count(self, calls: Sequence[Incoming], parks: Sequence[Incoming], position: int, watch: Watching) -> None:
        """Count what was committed, and tell who watches."""
        applied, parked = count_up_to(calls, position), count_up_to(parks, position)
        self.counts.applied += applied
        self.counts.parked += parked
        watch.settled_each(OutcomeStatus.APPLIED, applied)
        self.watch(parks).settled_each(OutcomeStatus.PARKED, parked)

    def watch(self, events: Sequence[Incoming]) -> Watching:
        """Return what watches calls for these events."""
        return watching(
            self.context.instruments,
            lambda: [self._delivery(event) for event in events],
            in_lists=self.projection.batch is not None,
        )

    def _delivery(self, event: Incoming) -> Delivery:
        return Delivery(
            projection=self.projection.name,
            origin=Origin.FOLLOW if self.course.job is None else Origin.REPLAY,
            record=event.record,
            event=event.event,
            is_undone_together=self.projection.joins,
        )

    def lend(self, connection: Connection) -> None:
        """Let the handler write beside the read model, where it is to."""
        if self.course.beside is not None:
            shadows.lend(connection, self.course.beside.into, self.course.beside.tables)

    def take_back(self, connection: Connection) -> None:
        """Let the tables' names mean the live ones again, before anything else is written."""
        if self.course.beside is not None:
            shadows.give_back(connection, self.course.beside.into, self.course.beside.tables)

    def take_alone(self, todo: Sorted, ran: Ran, error: Exception | None) -> None:
        """Take the event that failed by itself; all of them, where it cannot be told which one it was."""
        is_told = error is not None and ran.done < len(todo.calls) and self.projection.batch is None
        if is_told:
            self.alone.add(todo.calls[ran.done].sequence)
        else:
            self.alone.update(event.sequence for event in (*todo.calls, *todo.parks))

    def lone(self, event: Incoming, stretch: Stretch, hand: tuple[int, int] | None) -> Job:
        """Return what becomes of one event of a stretch by itself."""
        base = LoneEvent(
            context=self.context,
            projection=self.projection,
            token=self.token,
            incoming=event,
            stretch=stretch,
            hand=hand,
            states=self.course.states,
            job=self.course.job,
        )
        again, beside = self.course.again, self.course.beside
        if again is not None:
            return ReplayedEvent(base=base, only_open=again.only_open, skip_failed=again.skip_failed)
        return base if beside is None else BuiltEvent(base=base, beside=beside)


def _behind(tickets: dict[int, Ticket], gate: str) -> Ticket:
    return next(ticket for ticket in tickets.values() if ticket.gate == gate)


def _last(stretch: Stretch, position: int) -> EventRecord | None:
    if position >= stretch.position:
        return stretch.last
    kept = count_up_to(stretch.events, position)
    return stretch.events[kept - 1].record if kept else None
