"""A follower: applies what stands in the log to one projection, in the log's order, and nothing twice.

Only who holds a partition's lease applies its events. A stretch of the log is applied in one transaction,
optimistically: no savepoints, one write of the cursors. Where something in it fails, it is undone and that event is
taken by itself (`lone`). What a follower has in hand stands in its partitions' rows; who takes one over after an
unclean death takes that range one by one, each attempt written down before the call, so that an event that kills its
process becomes a failure instead of a loop of crashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from sqlalchemy import Connection

from .._model import OutcomeStatus
from .._store import amendments, partitions, replays, slices, states
from .._store.partitions import PartitionRow
from .._store.steps import Held
from ..errors import HandlerDied, StoreUnavailable
from .amended import give_amended
from .apart_stretch import Unsettled, apply_apart
from .attempting import attempt, refuse
from .context import Context, Tries, is_store_error, transact, unavailable
from .course import Course
from .joined_stretch import apply_joined
from .keeping import failed_call_of_log
from .log import EventLog, Incoming, Stretch
from .projection import Projection
from .sharing import Plan, check_layout, share
from .sorting import Sorted
from .stand import Counts, Stand

__all__ = ["Followed", "Follower"]

log_lines = logging.getLogger("projection_guard")
_READ: Final = 500
_STRETCH: Final = 100
_SHARE_EVERY_SECONDS: Final = 0.4
_LOOK_UP_SECONDS: Final = 0.25
_WISH_SECONDS: Final = 5.0


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


class Follower:
    """Follows the log for one projection. Not to be used by two at once; two followers share by their leases."""

    def __init__(self, context: Context, projection: Projection, log: EventLog, course: Course | None = None) -> None:
        self._context = context
        self._projection = projection
        self._log = log
        self._stand = Stand(context=context, projection=projection, course=course or Course())
        self._unsettled: Unsettled | None = None
        self._shared_at = 0.0
        self._is_lone = False
        self._amended: frozenset[str] = frozenset()

    async def follow(self, *, stops: Callable[[], bool], until: int | None = None) -> Followed:
        """Apply what is in the log, to its end or to `until`; the partitions stay ours for the lease.

        Raises `SourceError`, `StoreUnavailable`; whatever was committed by then stands.
        """
        stand = self._stand
        stand.counts, stand.waits, stand.ahead = Counts(), None, None
        if stand.cursors:
            await self._settle()
        if not stand.cursors or self._is_time_to_share:
            await self._share()
        await self._settle()
        try:
            while stand.cursors and not stops():
                if not await self._step(until, stops):
                    break
                if stand.cursors and self._is_time_to_share:  # however long the log is: another one may have died
                    await self._share()
        except SystemExit:
            self._died_here()
            raise
        await self._empty_hand()
        return Followed(
            projection=self._projection.name,
            partitions=len(stand.cursors),
            position=min(stand.cursors.values()) if stand.cursors else None,
            applied=stand.counts.applied,
            failed=stand.counts.failed,
            parked=stand.counts.parked,
            waits=stand.waits,
        )

    @property
    def has_unsettled(self) -> bool:
        """True while it made calls that the store has not taken a record of: it is to be used again, for that."""
        return self._unsettled is not None

    async def leave(self) -> None:
        """Give all partitions up at once, so that others go on; where that cannot be done their leases end."""
        projection, token = self._projection.name, self._stand.token

        def write(connection: Connection) -> None:
            partitions.release_all(connection, projection, token)
            partitions.forget_wishes(connection, projection, token)

        self._stand.forget()
        try:
            await transact(self._context, write, what=f"{projection}: following was not given up", seconds=5.0)
        except StoreUnavailable as error:
            log_lines.warning("%s", error)

    # -- sharing

    @property
    def _is_time_to_share(self) -> bool:
        return not self._shared_at or monotonic() - self._shared_at > _SHARE_EVERY_SECONDS

    async def _share(self) -> None:
        """Take our share of the partitions, prolong what is ours, ask for what is missing, give what is asked for."""
        stand, name = self._stand, self._projection.name
        self._shared_at = 0.0  # where only the reply is lost, what is ours is looked up before anything is applied
        wish_seconds = min(_WISH_SECONDS, self._context.lease_seconds)  # a dead one's wishes hold nobody up for longer

        def write(connection: Connection) -> tuple[list[PartitionRow], list[int], tuple[int, ...]]:
            state = states.read(connection, name)
            self._amended = amendments.event_ids(connection, name)
            rows = self._rows(connection)
            if rows and stand.course.partition is None and stand.course.slices is None:
                check_layout(self._projection, rows)  # somebody may have laid them out anew meanwhile
            plan = self._plan(rows)
            if state is None or state.state not in stand.course.states:
                stand.waits = None if state is None else state.state
                plan = Plan(keep=(), want=(), give=tuple(row.partition for row in rows if row.owner == stand.token))
            if plan.give:
                partitions.release(connection, name, stand.token, plan.give)
            taken = partitions.take(connection, name, stand.token, plan.keep, self._context.lease_seconds)
            for each in plan.want:
                partitions.want(connection, name, stand.token, each, wish_seconds)
            return rows, taken, plan.keep

        rows, taken, kept = await transact(self._context, write, what=f"{name}: following was not begun")
        self._shared_at = monotonic()
        for row in rows:
            if row.partition in taken and row.taken_by != stand.token:
                self._take_over(row)
        # A row of ours that somebody just wishes for is passed over by `take`: it is ours all the same.
        mine = {row.partition for row in rows if row.owner == stand.token and row.partition in kept}
        cursors = {row.partition: row.cursor for row in rows if row.partition in mine.union(taken)}
        if cursors != stand.cursors:
            stand.ahead = None
        if not cursors.keys() <= stand.cursors.keys() or not cursors:  # what is new here does not say what is in hand
            stand.hand = None
        stand.cursors = cursors

    def _rows(self, connection: Connection) -> list[PartitionRow]:
        course = self._stand.course
        if course.job is not None and not replays.is_unfinished(connection, course.job, run_by=course.run_by):
            return []  # this one has stood still since: the rows are another job's, or another one's who runs it
        if course.slices is not None:
            found = slices.rows(connection, self._projection.name)
            return [row for row in found if course.only is None or row.partition in course.only]
        if course.partition is None:
            return partitions.rows(connection, self._projection.name)
        row = partitions.replay_row(connection, self._projection.name)
        return [] if row is None else [row]

    def _plan(self, rows: list[PartitionRow]) -> Plan:
        course = self._stand.course
        if "active" in course.states and course.slices is None:
            return share(rows, self._stand.token)
        return Plan(keep=tuple(row.partition for row in rows), want=(), give=())  # whoever replays needs all of them

    def _take_over(self, row: PartitionRow) -> None:
        if row.hand_first is None or row.hand_last is None:
            return
        self._stand.careful_until = max(self._stand.careful_until, row.hand_last)
        if row.hand_is_lone:
            self._stand.died_at[row.partition] = row.hand_last

    def _died_here(self) -> None:
        """A handler exits the program, and somebody has caught that: an unclean death of one's own."""
        stand = self._stand
        if stand.hand is not None:
            stand.careful_until = max(stand.careful_until, stand.hand[1])
            if self._is_lone:
                stand.died_at.update(dict.fromkeys(stand.cursors, stand.hand[1]))

    async def _give_what_is_wanted(self, held: Held) -> bool:
        if held.is_wanted:
            self._stand.ahead = None
            await self._share()
        return bool(self._stand.cursors)

    # -- steps

    async def _step(self, until: int | None, stops: Callable[[], bool]) -> bool:
        """Apply the next stretch; False where there is nothing to do for now."""
        stand, began, before = self._stand, monotonic(), self._stand.counts.applied
        stretch = stand.ahead or await self._read(until)
        stand.ahead = None
        if stretch.is_empty:
            stand.waits = "a hole in the log may still be filled" if stretch.is_held else None
            return False
        if stretch.events and self._is_alone(stretch.events[0]):
            goes_on = await self._one(stretch, stretch.events[0])
        else:
            goes_on = await self._together(stretch, self._end_of_piece(stretch), until)
        await self._keep_pace(stand.counts.applied - before, began, stops)
        return goes_on

    def _end_of_piece(self, stretch: Stretch) -> int:
        """Return how far to go in one transaction: so many events at most, up to the first to be taken by itself."""
        most = self._projection.batch or _STRETCH
        last = None
        for event in stretch.events[:most]:
            if self._is_alone(event):
                break
            last = event
        if last is None or last is stretch.events[-1]:
            return stretch.position
        return last.sequence

    def _is_alone(self, event: Incoming) -> bool:
        stand = self._stand
        return event.sequence <= stand.careful_until or event.sequence in stand.alone or event.error is not None

    async def _read(self, until: int | None, cursors: dict[int, int] | None = None) -> Stretch:
        course = self._stand.course
        limit = max(self._projection.batch or 0, _READ)
        if course.events_per_second is not None:
            limit = max(1, min(limit, int(course.events_per_second / 4)))
        stretch = await self._log.stretch(
            self._projection,
            cursors or self._stand.cursors,
            limit=limit,
            until=until,
            streams=course.streams,
            slices=course.slices,
        )
        if self._amended:
            await give_amended(self._context, self._projection, stretch.events, self._amended)
        return stretch

    async def _keep_pace(self, applied: int, began: float, stops: Callable[[], bool]) -> None:
        rate = self._stand.course.events_per_second
        while rate is not None and not stops() and (left := began + applied / rate - monotonic()) > 0:
            await self._context.io.sleep(min(left, _LOOK_UP_SECONDS))

    async def _together(self, stretch: Stretch, end: int, until: int | None) -> bool:
        """Apply a piece of a stretch as a whole, after saying that it is in hand; read on where there is more."""
        stand = self._stand
        piece = stretch if end >= stretch.position else stretch.up_to(end)
        following = stretch.beyond(end) if end < stretch.position else None
        await self._take_in_hand(piece)
        if not stand.cursors:
            return False
        if following is None and piece.is_full and self._projection.joins:
            cursors = {partition: max(cursor, piece.position) for partition, cursor in stand.cursors.items()}
            following = await self._read(until, cursors)
        if not piece.events:
            held = await self._pass_over(piece, following)
        elif self._projection.joins:
            held = await apply_joined(stand, piece, following)
        else:
            held, self._unsettled = await apply_apart(stand, piece)
            await self._context.io.shielded(self._settle())
        if held is None or not stand.cursors:
            return False
        if stand.ahead is None:  # what was read and not applied need not be read again
            at = min(stand.cursors.values())
            stand.ahead = stretch.beyond(at) if stretch.after < at < stretch.position else None
        return await self._give_what_is_wanted(held)

    async def _settle(self) -> None:
        """Record what calls came to that the store has not taken yet: they are not made again for that."""
        if self._unsettled is not None:
            await self._unsettled.settle()
            self._unsettled = None

    async def _pass_over(self, stretch: Stretch, following: Stretch | None) -> Held | None:
        """Move past a stretch in which nothing is for this projection."""
        stand = self._stand
        hand = stand.next_hand(stretch, stretch.position, following)

        def write(connection: Connection) -> Held:
            held = stand.give_up_unread(connection, stand.hold_here(connection), stretch)
            if held.cursors and stand.may_walk(held):
                stand.write_more(connection, stretch, Sorted(), stretch.position)
                stand.advance_here(connection, stretch, stretch.position, 0, hand)
            return held

        held = await transact(self._context, write, what=stand.what)
        if not stand.may_go_on(held):
            return None
        stand.came_to(stretch.position, hand)
        stand.ahead = following
        return held

    # -- what is in hand

    async def _take_in_hand(self, stretch: Stretch) -> None:
        hand, known = (stretch.after + 1, stretch.position), self._stand.hand
        if stretch.events and (known is None or not known[0] <= hand[0] <= hand[1] <= known[1]):
            await self._say_in_hand(hand)

    async def _empty_hand(self) -> None:
        if self._stand.hand is not None and self._stand.cursors:
            await self._say_in_hand(None)

    async def _say_in_hand(self, hand: tuple[int, int] | None) -> None:
        stand = self._stand
        statements = self._context.follow.take_hand(
            self._projection.name, token=stand.token, lease_seconds=self._context.lease_seconds, hand=hand
        )
        tries = Tries(self._context.io)
        while True:
            try:
                rows = (await self._context.io.once(statements))[-1]
            except Exception as error:
                if not is_store_error(error) or not tries.may_redo(error):
                    raise unavailable(stand.what, error) from error
                await tries.pause()
            else:
                stand.hand = hand
                if not rows:
                    stand.lose()
                return

    # -- one event by itself

    async def _one(self, stretch: Stretch, event: Incoming) -> bool:
        """Take one event by itself, and whatever becomes of it move past it."""
        stand = self._stand
        hand = (event.sequence + 1, stretch.position) if event.sequence < stretch.position else None
        job = stand.lone(event, stretch, hand)
        died = stand.died_at.pop(event.partition, None) == event.sequence
        error = HandlerDied.after(1) if died else event.error
        if error is not None:
            ticket = self._projection.lone_ticket(event.record)
            call = failed_call_of_log(self._context, ticket, event.as_logged, error)
            outcome = await refuse(self._context, job, call)
        else:
            if event.sequence <= stand.careful_until:
                await self._say_alone((event.sequence, event.sequence))
            else:
                await self._take_in_hand(stretch)
            outcome = await attempt(self._context, self._projection, job, event.event)
            self._is_lone = False
        if outcome.status is OutcomeStatus.DEFERRED:
            await self._share()
            stand.waits = stand.waits or "another follower has taken over"
            return False
        stand.counts.add(outcome)
        stand.came_to(event.sequence, hand)
        stand.ahead = stretch.beyond(event.sequence) if event.sequence < stretch.position else None
        return True

    async def _say_alone(self, hand: tuple[int, int]) -> None:
        """Write the attempt down before the call: should it kill this process too, the next one knows which it was."""

        def write(connection: Connection) -> bool:
            return partitions.set_hand(
                connection,
                self._projection.name,
                self._stand.token,
                hand,
                is_lone=True,
                lease_seconds=self._context.lease_seconds,
            )

        await transact(self._context, write, what=self._stand.what)
        self._stand.hand, self._is_lone = hand, True
