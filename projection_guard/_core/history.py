"""What has become of one stream's events in one projection: found in the log or on record, decided event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from .._model import EventRecord, Page, ResolutionMethod
from .._records import StreamEvent
from .._store import histories, partitions, recorded
from .._store.cursors import NO_CURSOR, cursor, read_cursor, read_number
from .._store.histories import OfEvents
from .._store.recorded import OfStream, Place
from ..errors import InvalidArgument
from .log import EventLog
from .projection import Projection

__all__ = ["InLog", "Seen", "became", "in_log", "page_in_log", "page_on_record", "read_place"]

_IN_LOG = "log"
_BY_HAND = (ResolutionMethod.MANUAL_SKIP, ResolutionMethod.MANUAL_FIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event of a stream. `is_taken`: the projection takes such events. `partition`: where it is followed."""

    event: EventRecord
    is_taken: bool = True
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InLog:
    """A page of a stream's events as the log has them, newest first. What follows lies `before`; None: nothing does."""

    seen: tuple[Seen, ...]
    before: int | None


def read_place(after: str | None) -> Place | None:
    """Read where a page begins. Raises `InvalidArgument`."""
    if after is None:
        return None
    part, first, second, third = read_cursor(after, 4)
    if part not in (_IN_LOG, *recorded.PARTS):
        raise InvalidArgument(NO_CURSOR)
    return part, first, second, third


async def in_log(
    log: EventLog, projection: Projection, stream_id: str, after: Place | None, limit: int
) -> InLog | None:
    """Read a page from the log; None where it finds no streams, or the page before was not read from it."""
    if after is not None and after[0] != _IN_LOG:
        return None
    before = None if after is None else read_number(after[1])
    found = await log.of_stream(stream_id, before, limit + 1)
    if found is None:
        return None
    seen: list[Seen] = []
    for each in found[:limit]:
        incoming = log.incoming(projection, each)
        if incoming is None:
            seen.append(Seen(event=log.record_of(each)[0], is_taken=False))
        else:
            seen.append(Seen(event=incoming.record, partition=incoming.partition))
    return InLog(seen=tuple(seen), before=found[limit - 1].sequence if len(found) > limit else None)


def page_in_log(connection: Connection, projection: Projection, found: InLog) -> Page[StreamEvent]:
    """Say what has become of events of the log. How far each partition has come is read first."""
    cursors = {row.partition: row.cursor for row in partitions.rows(connection, projection.name)}
    lowest = min(cursors.values(), default=0)
    since = histories.began_anew_at(connection, projection.name)
    of_them = histories.of_events(connection, projection.name, _gates(projection, found.seen), since=since)
    sequences = [each.event.sequence for each in found.seen if each.event.sequence is not None]
    missed: list[tuple[int, int]] = []
    if sequences:
        missed = histories.given_up(connection, projection.name, min(sequences), max(sequences))
    items: list[StreamEvent] = []
    for each in found.seen:
        at = lowest if each.partition is None else cursors.get(each.partition, lowest)
        told = became(each, of_them, at=at, missed=missed)
        assert told is not None  # where a cursor is known, each event is in one state
        items.append(told)
    after = None if found.before is None else cursor(_IN_LOG, str(found.before), "", "")
    return Page(items=tuple(items), after=after)


def page_on_record(
    connection: Connection, projection: Projection, of: OfStream, after: Place | None, limit: int
) -> Page[StreamEvent]:
    """Read a page of those events of which something is on record, and say what."""
    if after is not None and after[0] == _IN_LOG:
        raise InvalidArgument(NO_CURSOR)
    found = recorded.events(connection, of, after, limit + 1)
    shown = found[:limit]
    seen = [Seen(event=each.event) for each in shown]
    of_them = histories.of_events(connection, projection.name, _gates(projection, seen), since=of.since)
    told = [became(each, of_them, at=None, missed=()) for each in seen]
    items = tuple(each for each in told if each is not None)
    return Page(items=items, after=cursor(*shown[-1].place) if len(found) > limit else None)


def _gates(projection: Projection, seen: Sequence[Seen]) -> dict[str, str]:
    return {each.event.event_id: projection.lone_ticket(each.event).gate for each in seen}


def became(seen: Seen, of_events: OfEvents, *, at: int | None, missed: Sequence[tuple[int, int]]) -> StreamEvent | None:
    """Say what has become of an event. `at`: how far its partition has come; None where it is not read from a log.

    None where nothing is on record of one that is not read from a log.
    """
    event, sequence = seen.event, seen.event.sequence
    known = _known(event, of_events)
    if known is not None:
        return known
    told = _told(event, of_events)
    if not seen.is_taken:
        return replace(told, state="ignored")
    if at is not None and sequence is not None and sequence > at:
        return replace(told, state="pending")
    ended = _ended(told, event, of_events)
    if ended is not None or at is None:
        return ended
    if sequence is not None and any(first <= sequence <= last for first, last in missed):
        return replace(told, state="missed")
    return replace(told, state="applied", attempts=1)


def _told(event: EventRecord, of_events: OfEvents) -> StreamEvent:
    failure = of_events.failures.get(event.event_id)
    return StreamEvent(
        event_id=event.event_id,
        event_type=event.event_type,
        event_sequence=event.sequence,
        state="pending",
        at=None,
        failure_id=None if failure is None else failure.id,
        how=None if failure is None else failure.how,
        attempts=0 if failure is None else failure.retry_count + 1,
    )


def _known(event: EventRecord, of_events: OfEvents) -> StreamEvent | None:
    """Say what the rows say that are there as long as it is so: parked, failed, done with."""
    told, failure = _told(event, of_events), of_events.failures.get(event.event_id)
    parked, done = of_events.parked.get(event.event_id), of_events.done.get(event.event_id)
    if parked is not None:
        at, attempts = parked
        return replace(told, state="parked", at=at, attempts=told.attempts + attempts)
    if failure is not None and failure.how is None:
        return replace(told, state="failed", at=failure.failed_at)
    if done is None:
        return None
    at, how = done
    if how == "skipped":
        return replace(told, state="skipped", at=at, how=ResolutionMethod.MANUAL_SKIP)
    if how == "fixed":
        return replace(told, state="applied", at=at, how=ResolutionMethod.MANUAL_FIX)
    if told.how in _BY_HAND:  # the row is as old as that decision; only a replay has changed it since
        return replace(told, state="applied", how=ResolutionMethod.MANUAL_REPLAY)
    return replace(told, state="applied", at=at, attempts=max(told.attempts, 1))


def _ended(told: StreamEvent, event: EventRecord, of_events: OfEvents) -> StreamEvent | None:
    """Say what a failure says that has ended longer ago than such rows are kept."""
    failure = of_events.failures.get(event.event_id)
    if failure is None or failure.how is None:
        return None
    if failure.how is not ResolutionMethod.MANUAL_SKIP:
        return replace(told, state="applied", at=failure.ended_at)
    if event.event_id in of_events.tainted:
        return replace(told, state="skipped", at=failure.ended_at)
    untainted = of_events.untainted.get(event.event_id)
    if untainted is not None and failure.ended_at is not None and untainted >= failure.ended_at:
        return replace(told, state="applied", at=untainted, how=ResolutionMethod.MANUAL_FIX)
    return replace(told, state="applied", how=ResolutionMethod.MANUAL_REPLAY)  # else that alone ends a stream's taint
