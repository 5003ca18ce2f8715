"""Parked events of one stream and a joined handler: many in one transaction, optimistically, without savepoints.

Where one fails, nothing of it is applied; that one is left marked, to be taken by itself, and what was before it is
taken as a stretch again. Where it cannot be told which one it was, all stay marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Final

from sqlalchemy import Connection

from .._dialect import Bound, TransactionState
from .._instruments import Delivery, Watching, watching
from .._io.protocol import Ran, Transaction
from .._model import Origin, OutcomeStatus
from .._notices import Notice, NoticeKind
from .._store import gates, parked, settled, states
from .._store.claims import Settings, Ticket, read_settings, restore_settings
from .._store.parked import InLine
from ..errors import SourceError, StoreUnavailable
from .context import Context, Tries, is_store_error, or_give_back, recall, transact, unavailable
from .projection import Projection

__all__ = ["LONGEST_STRETCH", "LONGEST_STRETCH_SECONDS", "Line", "drain_stretch"]

LONGEST_STRETCH: Final = 100
LONGEST_STRETCH_SECONDS: Final = 0.2
"""Who publishes to the stream meanwhile waits for its gate, on SQLite for the writer: so long, and a call."""
_SAVEPOINT: Final = Bound("SAVEPOINT projection_guard")
_RELEASE: Final = Bound("RELEASE SAVEPOINT projection_guard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The marked heads of a stream's line, whose turn was reserved with `token`."""

    gate: str
    token: str
    heads: Sequence[InLine]

    def ids(self, first: int = 0, end: int | None = None) -> list[int]:
        """Return the rows of some of them."""
        return [head.id for head in self.heads[first:end]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    context: Context
    projection: Projection
    line: Line
    events: Sequence[object]

    @property
    def what(self) -> str:
        return f"{self.projection.name}: {len(self.line.heads)} parked events of a stream are not on record as applied"

    def ticket(self, head: InLine) -> Ticket:
        return Ticket(projection=self.projection.name, gate=self.line.gate, event=head.event)

    def watch(self) -> Watching:
        return watching(
            self.context.instruments,
            lambda: [self._delivery(head, event) for head, event in zip(self.line.heads, self.events, strict=False)],
            in_lists=self.projection.batch is not None,
        )

    def _delivery(self, head: InLine, event: object) -> Delivery:
        return Delivery(
            projection=self.projection.name,
            origin=Origin.DRAIN,
            record=head.event,
            event=event,
            is_undone_together=True,
        )

    # -- what is written, under the gate's lock

    def is_mine(self, connection: Connection) -> bool:
        return gates.lock(connection, self.ticket(self.line.heads[0])).lease_owner == self.line.token

    def may_call(self, connection: Connection) -> bool:
        """Take the gate and look; where it is not to be, give the turn back, as far as it is ours."""
        if not self.is_mine(connection):
            return False
        name, heads = self.projection.name, self.line.heads
        state = states.read(connection, name)
        flows = state is not None and state.state == "active" and state.held_since is None
        flows = flows and not self.projection.is_others(is_followed=state is not None and state.mode == "followed")
        failure = gates.first_failure(connection, name, self.line.gate, self.projection.order)
        if not flows or not heads[-1].precedes(failure, by_sequence=self.projection.is_followed):
            self.give_back(connection)
            return False
        done = settled.among(connection, name, [head.event.event_id for head in heads])
        if not done and self._in_line(connection, len(heads)) == self.line.ids():
            return True
        first = next((at for at, head in enumerate(heads) if head.event.event_id in done), 0)
        self.give_back(connection, alone=first)
        return False

    def _in_line(self, connection: Connection, limit: int) -> list[int]:
        by_sequence = self.projection.is_followed
        line = parked.first(connection, self.projection.name, self.line.gate, by_sequence=by_sequence, limit=limit)
        return [head.id for head in line]

    def applied(self, connection: Connection, number: int) -> None:
        """Record the first so many as applied, and let the stream go on. The rest is as it was."""
        settled.record_all(connection, [self.ticket(head) for head in self.line.heads[:number]])
        parked.unpark_all(connection, self.line.ids(0, number))
        parked.mark(connection, self.line.ids(number), is_fresh=True)
        gates.settle(connection, self.projection.name, self.line.gate, self.projection.order, free=True)

    def give_back(self, connection: Connection, *, alone: int | None = None) -> None:
        """End the turn, if it is ours still; all but the one at `alone` are as if nothing had been tried."""
        if gates.release(connection, self.projection.name, self.line.gate, token=self.line.token):
            kept = [] if alone is None else [self.line.heads[alone].id]
            parked.mark(connection, [each for each in self.line.ids() if each not in kept], is_fresh=True)

    def keep_marks(self, connection: Connection) -> None:
        """End the turn, if it is ours still: all of them are taken by themselves."""
        gates.release(connection, self.projection.name, self.line.gate, token=self.line.token)


async def drain_stretch(context: Context, projection: Projection, line: Line) -> int | None:
    """Apply marked heads of a line; return how many have left it, or None where there is nothing to do here any more.

    0 where the stretch came to nothing, and some are to be taken by themselves. Raises `SourceError` and
    `StoreUnavailable` where an event could not be read, or nothing could be written.
    """
    stretch = _Stretch(context=context, projection=projection, line=line, events=())
    try:
        readable = await or_give_back(context, _read(stretch), stretch.give_back, what=stretch.what)
    except (SourceError, StoreUnavailable):
        await transact(context, stretch.give_back, what=stretch.what)
        raise
    if not readable.events:
        await transact(context, partial(stretch.give_back, alone=0), what=stretch.what)
        return 0
    work = _apply(readable)
    return await or_give_back(context, work, stretch.give_back, what=stretch.what, but=(Exception, SystemExit))


async def _read(stretch: _Stretch) -> _Stretch:
    """Read the events, up to the first that cannot be rebuilt."""
    events: list[object] = []
    for head in stretch.line.heads:
        try:
            event = await recall(stretch.context, stretch.ticket(head), head.payload, amended=head.amended)
        except (SourceError, StoreUnavailable):
            raise
        except Exception:
            break
        events.append(event)
    return _Stretch(context=stretch.context, projection=stretch.projection, line=stretch.line, events=events)


async def _apply(stretch: _Stretch) -> int | None:
    tries = Tries(stretch.context.io)
    while True:
        is_over, drained = await _once(stretch, tries)
        if is_over:
            return drained
        await tries.pause()


async def _once(stretch: _Stretch, tries: Tries) -> tuple[bool, int | None]:
    """Apply it in one transaction; False asks for all of it again.

    Where a handler's call meets a deadlock or a lost connection, its event is taken by itself: that is done again.
    """
    ran, watch = Ran(), stretch.watch()
    transaction = await stretch.context.io.begin()
    try:
        try:
            may_call, settings = await _prepare(stretch, transaction)
        except Exception as refused:
            if not is_store_error(refused):
                raise
            if tries.may_redo(refused):
                return False, None
            raise unavailable(stretch.what, refused) from refused
        if not may_call:
            return True, None
        error = await _call(stretch, transaction, ran, watch)
        if error is None and transaction.state is TransactionState.OPEN:
            error = await _finish(stretch, transaction, ran, settings)
            if error is None:
                _tell(stretch, ran.done, watch)
                return True, ran.done
            if tries.may_redo(error):
                return False, None
            ran.done = len(stretch.events)  # nobody can tell which one it was
        elif error is None:  # a handler has swallowed an error of the database, or ended the transaction
            ran.done = len(stretch.events)
    finally:
        await transaction.close()
    return True, await transact(stretch.context, partial(_look_again, stretch=stretch, ran=ran), what=stretch.what)


async def _prepare(stretch: _Stretch, transaction: Transaction) -> tuple[bool, Settings]:
    seconds = stretch.projection.timeout_seconds
    rows = await transaction.together(stretch.context.hot.preamble(limit_seconds=seconds))
    may_call = await transaction.run(stretch.may_call)
    if may_call:
        await transaction.together([_SAVEPOINT])
    else:
        await transaction.commit()
    return may_call, read_settings(rows)


async def _call(stretch: _Stretch, transaction: Transaction, ran: Ran, watch: Watching) -> Exception | None:
    projection = stretch.projection
    call, started = projection.call(abandonable=True, watch=watch), perf_counter()
    try:
        given = projection.given_each(stretch.events)
        await transaction.call_each(call, given, ran, seconds=LONGEST_STRETCH_SECONDS)
    except Exception as error:
        return error
    finally:
        if projection.batch is not None and ran.done:
            ran.done = len(stretch.events)  # it was called once for all of them
    stretch.context.timings.add(projection.name, (perf_counter() - started) * 1000, ran.done)
    return None


async def _finish(stretch: _Stretch, transaction: Transaction, ran: Ran, settings: Settings) -> Exception | None:
    """Write that they were applied, under the role and search path that were ours before the handler changed them."""

    def write(connection: Connection) -> None:
        restore_settings(connection, settings)
        stretch.applied(connection, ran.done)

    try:
        await transaction.together([_RELEASE])
        await transaction.run(write)
        await transaction.commit()
    except Exception as error:
        return error
    return None


def _look_again(connection: Connection, *, stretch: _Stretch, ran: Ran) -> int | None:
    """In a fresh transaction, after a stretch that came to nothing, or whose COMMIT has had no answer."""
    gates.lock(connection, stretch.ticket(stretch.line.heads[0]))
    names = [head.event.event_id for head in stretch.line.heads]
    done = settled.among(connection, stretch.projection.name, names)
    if done:  # it came through
        return len(done)
    if ran.done < len(stretch.events) and stretch.projection.batch is None:
        stretch.give_back(connection, alone=ran.done)
    else:
        stretch.keep_marks(connection)
    return 0


def _tell(stretch: _Stretch, number: int, watch: Watching) -> None:
    stretch.context.tell(
        [
            Notice(
                kind=NoticeKind.DRAINED,
                projection=stretch.projection.name,
                event_id=head.event.event_id,
                event_type=head.event.event_type,
                stream_id=head.event.stream_id,
            )
            for head in stretch.line.heads[:number]
        ]
    )
    watch.settled_each(OutcomeStatus.APPLIED, number)
