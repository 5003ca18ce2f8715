"""The event log as the flow sees it: a source of either kind, asked without blocking anybody, its answers checked.

Below it is the application's `EventSource`; above it everything that follows or replays.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, cast

from .._io.protocol import IO
from .._mapping import EventMapping, why_not_storable
from .._model import EventRecord, Json
from .._source import (
    Batch,
    Recorded,
    SeenTypes,
    Share,
    Skipped,
    checked,
    checked_stream,
    key_of,
    partition_of,
    takes_share,
)
from .._store.claims import Ticket
from .._store.partitions import REPLAY
from .._store.slices import row_of, slice_of
from .._wording import type_name, words_of
from ..errors import CodecError, ConfigurationError, EventError, PermanentFailure, ProjectionGuardError, SourceError
from .projection import Projection

__all__ = ["EventLog", "Incoming", "Stretch", "count_up_to", "is_async_source"]

_sequence: Final = attrgetter("sequence")
_THE_EVENT: Final = object()


@dataclass(slots=True, kw_only=True)
class Incoming:
    """An event of the log that a projection takes. `error`: it could not be rebuilt, or does not say what it must.

    `amended` is the stored payload that the projection is given by an amendment, `instead_of` what the log has. Not
    frozen, for there is one for each event that is read: that would make it three times as expensive.
    """

    sequence: int
    event: object
    record: EventRecord
    partition: int
    error: Exception | None = None
    amended: Json = None
    instead_of: object = _THE_EVENT

    @property
    def as_logged(self) -> object:
        """The event as the log has it: that is what is kept of one which fails."""
        return self.event if self.instead_of is _THE_EVENT else self.instead_of


def count_up_to(events: Sequence[Incoming], sequence: int) -> int:
    """Count how many of these events, which are in the log's order, stand at or below a sequence."""
    return bisect_right(events, sequence, key=_sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of the log: what a projection takes of the events after `after`, up to and with `position`.

    `last` is the last event that stands there, taken or not. `is_full`: there may be more. `is_held`: there is more,
    behind a hole. `partitions` are those that it was read for: what is others' is not in it.
    """

    after: int
    position: int
    events: tuple[Incoming, ...]
    last: EventRecord | None
    partitions: frozenset[int] = frozenset()
    skipped: tuple[Skipped, ...] = ()
    is_full: bool = False
    is_held: bool = False

    def lacks(self, cursors: Mapping[int, int]) -> list[int]:
        """Return which of these partitions have events up to its position that are not in it."""
        return [number for number, at in cursors.items() if number not in self.partitions or at < self.after]

    @property
    def is_empty(self) -> bool:
        """True where there is nothing, not even a hole."""
        return self.position <= self.after

    def up_to(self, sequence: int) -> Stretch:
        """Return the part of it that ends with one of its events."""
        kept = self.events[: count_up_to(self.events, sequence)]
        last = kept[-1].record if kept else None
        skipped = tuple(hole for hole in self.skipped if hole.last <= sequence)
        return replace(self, position=sequence, events=kept, last=last, skipped=skipped, is_full=True)

    def beyond(self, sequence: int) -> Stretch:
        """Return what is left of it behind one of its events."""
        return replace(
            self,
            after=sequence,
            events=self.events[count_up_to(self.events, sequence) :],
            skipped=tuple(hole for hole in self.skipped if hole.last > sequence),
        )

    def then(self, following: Stretch | None) -> Stretch:
        """Return it with the part that comes next."""
        if following is None:
            return self
        return replace(
            following,
            after=self.after,
            events=self.events + following.events,
            skipped=self.skipped + following.skipped,
        )


def is_async_source(source: object) -> bool:
    """Return whether a source's methods have to be awaited. Raises `ConfigurationError` for what is no source."""
    read, head = getattr(source, "read", None), getattr(source, "head", None)
    if not callable(read) or not callable(head):
        raise ConfigurationError(
            f"source= takes an event source, with read(after, limit, until) and head(), not {type(source).__name__}"
        )
    kinds = {inspect.iscoroutinefunction(read), inspect.iscoroutinefunction(head)}
    if len(kinds) > 1:
        raise ConfigurationError(f"{type(source).__name__} is no event source: of read and head one is async")
    return kinds.pop()


class EventLog:
    """Reads a source; whatever goes wrong there is a `SourceError`, and nothing was applied of it."""

    def __init__(self, source: object, io: IO, mapping: EventMapping) -> None:
        self.source = source
        self._source = cast("Any", source)
        self._is_async = is_async_source(source)
        self._takes_share = takes_share(source)
        self._io = io
        self._mapping = mapping

    async def close(self) -> None:
        """Close the source, where that can be done: for a process that has no more use for it."""
        close: object = getattr(self._source, "close", None)
        closed = close() if callable(close) else None
        if inspect.isawaitable(closed):
            await closed

    async def stretch(
        self,
        projection: Projection,
        cursors: dict[int, int],
        *,
        limit: int,
        until: int | None = None,
        streams: frozenset[str] | None = None,
        slices: int | None = None,
    ) -> Stretch:
        """Read the next part of the log for these partitions, each from its cursor on.

        A replay stands on one row for all of them, or on the rows of so many `slices`; `streams` leaves out all others.
        """
        after = min(cursors.values())
        if until is not None and until <= after:
            return Stretch(after=after, position=after, events=(), last=None, partitions=frozenset(cursors))
        share = self._share(projection, cursors) if slices is None else self._share_of(slices, cursors)
        batch = await self.read(after, limit, until, share)
        events: list[Incoming] = []
        is_replay = REPLAY in cursors
        for recorded in batch.events:
            incoming = self.incoming(projection, recorded)
            if incoming is None or (streams is not None and incoming.record.stream_id not in streams):
                continue
            if is_replay:
                incoming.partition = REPLAY
            elif slices is not None:
                incoming.partition = row_of(partition_of(key_of(recorded.record or incoming.record), slices))
            if incoming.sequence > cursors.get(incoming.partition, incoming.sequence):
                events.append(incoming)
        return Stretch(
            after=after,
            position=batch.position,
            events=tuple(events),
            last=self._last(batch, is_whole=share is None),
            partitions=frozenset(cursors),
            skipped=tuple(batch.skipped),
            is_full=(len(batch.events) if share is None else batch.position - after) >= limit,
            is_held=batch.is_held,
        )

    def _last(self, batch: Batch, *, is_whole: bool) -> EventRecord | None:
        """Return the last event that was read; None where it is another one's, and the source does not say which."""
        if batch.last is not None:
            named = Recorded(sequence=batch.last.sequence or batch.position, event=None, record=batch.last)
            return self.record_of(named)[0]
        if not batch.events or not (is_whole or batch.events[-1].sequence == batch.position):
            return None
        return self.record_of(batch.events[-1])[0]

    def _share(self, projection: Projection, cursors: Mapping[int, int]) -> Share | None:
        """Return what of the log is for these partitions; None for all of it, or where the source cannot leave out."""
        if not self._takes_share or REPLAY in cursors or len(cursors) >= projection.partitions:
            return None
        return Share(partitions=frozenset(cursors), of=projection.partitions)

    def _share_of(self, slices: int, cursors: Mapping[int, int]) -> Share | None:
        if not self._takes_share or len(cursors) >= slices:
            return None
        return Share(partitions=frozenset(map(slice_of, cursors)), of=slices)

    def incoming(self, projection: Projection, recorded: Recorded) -> Incoming | None:
        """Return an event as a projection gets it; None where it does not take it."""
        record, error = self.record_of(recorded)
        if error is not None:
            if not projection.could_take(record.event_type):
                return None
        else:
            try:
                if not projection.takes(recorded.event, record.event_type):
                    return None
            except Exception as raised:
                error = _untold(raised)
            else:
                error = _misplaced(projection, record) if record.stream_id is None else None
        return Incoming(
            sequence=recorded.sequence,
            event=recorded.event,
            record=record,
            partition=projection.partition(recorded.record or record),  # by what the log says, as in a source's share
            error=error,
        )

    def record_of(self, recorded: Recorded) -> tuple[EventRecord, Exception | None]:
        """Return what an event says of itself, its place in the log above all, and why it cannot be handled, if so."""
        refusal = None if recorded.record is None else why_not_storable(recorded.record)
        if refusal is not None:
            kind = type(recorded.event).__name__[:255]
            nameless = EventRecord(
                event_id=f"sequence-{recorded.sequence}", event_type=kind, sequence=recorded.sequence
            )
            return nameless, EventError(f"the log says of this event what cannot be stored: {refusal}")
        if recorded.error is not None:
            assert recorded.record is not None
            return replace(recorded.record, sequence=recorded.sequence), _unrebuilt(recorded.error)
        record = recorded.record
        try:
            if record is None:
                record = self._mapping.read(recorded.event)
        except EventError as refused:
            name = f"sequence-{recorded.sequence}"
            kind = type(recorded.event).__name__[:255]
            return EventRecord(event_id=name, event_type=kind, sequence=recorded.sequence), refused
        return record if record.sequence == recorded.sequence else replace(record, sequence=recorded.sequence), None

    def time_of(self, recorded: Recorded) -> datetime | None:
        """Return when an event occurred, as the log says, or else the event itself; None where neither tells."""
        record, error = self.record_of(recorded)
        if record.occurred_at is not None or error is not None:
            return record.occurred_at
        try:
            return self._mapping.read(recorded.event).occurred_at
        except EventError:
            return None

    async def event(self, ticket: Ticket) -> object:
        """Read one event again. Raises `CodecError` where the log does not have it any more, or cannot rebuild it."""
        sequence = ticket.event.sequence
        found: Sequence[Recorded] = ()
        if sequence is not None:
            found = (await self.read(sequence - 1, 1, sequence)).events
        else:  # of a failure that was adopted nobody may have known the sequence
            found = [each for each in [await self.find(ticket.event.event_id)] if each is not None]
        if not found or self.record_of(found[0])[0].event_id != ticket.event.event_id:
            raise CodecError(f"the log has no event {ticket.event.event_id!r} at sequence {sequence} any more")
        error = self.record_of(found[0])[1]
        if error is not None:
            raise error
        return found[0].event

    async def said_of(self, event_id: str) -> EventRecord | None:
        """Return what the log says of an event, by its id; None where it does not find it."""
        found = await self.find(event_id)
        return None if found is None else self.record_of(found)[0]

    async def find(self, event_id: str) -> Recorded | None:
        """Read one event by its id; None where the log has none, or the source does not look events up."""
        get = getattr(self._source, "get", None)
        if not callable(get):
            return None
        found = await self._ask("get", lambda: get(event_id))
        if found is not None and not isinstance(found, Recorded):
            raise SourceError(f"The source's get() returned {type(found).__name__}, not a Recorded or None")
        return found

    async def read(self, after: int, limit: int, until: int | None, share: Share | None = None) -> Batch:
        """Read a batch, checked against the contract."""
        more = {} if share is None else {"share": share}
        batch = await self._ask("read", lambda: self._source.read(after, limit, until, **more))
        if not isinstance(batch, Batch):
            raise SourceError(f"The source's read() returned {type(batch).__name__}, not a Batch")
        return checked(batch, after, limit, until)

    async def of_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Read the newest events of one stream below a sequence; None where the source finds no streams."""
        read_stream = getattr(self._source, "read_stream", None)
        if not callable(read_stream):
            return None
        found = await self._ask("read_stream", lambda: read_stream(stream_id, before, limit))
        if found is None:
            return None
        events = checked_stream(cast("Sequence[Recorded]", found), before, limit)
        said = [recorded.record or self.record_of(recorded)[0] for recorded in events]
        if {record.stream_id for record in said} - {stream_id, None}:  # one that cannot be read tells no stream
            raise SourceError(f"The source was asked for the stream {stream_id!r} and returned events of another one")
        return events

    async def types(self, names: Sequence[str], limit: int) -> SeenTypes | None:
        """Say which types of events the log shows in a bounded look; None where the source does not tell."""
        types = getattr(self._source, "types", None)
        if not callable(types):
            return None
        seen = await self._ask("types", lambda: types(names, limit))
        if not isinstance(seen, SeenTypes):
            raise SourceError(f"The source's types() returned {type(seen).__name__}, not SeenTypes")
        return seen

    async def head(self) -> int:
        """Read the highest sequence in the log."""
        head = await self._ask("head", self._source.head)
        if isinstance(head, bool) or not isinstance(head, int) or head < 0:
            raise SourceError(f"The source's head() returned {head!r}; it has to return a sequence, 0 for an empty log")
        return head

    async def _ask(self, what: str, question: Callable[[], object]) -> object:
        try:
            return await self._io.ask(question, is_async=self._is_async)
        except ProjectionGuardError:
            raise
        except Exception as error:
            raise SourceError(
                f"The event log could not be read: the source's {what}() raised {type(error).__name__}"
            ) from error


def _misplaced(projection: Projection, record: EventRecord) -> EventError | None:
    """Return why an event without a stream has no place in this projection's order."""
    try:
        projection.ticket(record)
    except EventError as refused:
        return refused
    return None


def _untold(raised: Exception) -> PermanentFailure:
    refused = PermanentFailure(f"can_handle raised {type(raised).__name__}: whether this event is taken is not known")
    refused.__cause__ = raised
    return refused


def _unrebuilt(error: Exception) -> CodecError:
    refused = CodecError(f"the source could not rebuild this event: {type_name(error)}: {words_of(error)}")
    refused.__cause__ = error
    return refused
