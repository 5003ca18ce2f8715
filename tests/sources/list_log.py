"""A log in memory with transactions and holes, and its sources."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from projection_guard._model import EventRecord
from projection_guard._source import Batch, Recorded, Share, Skipped, check_range, check_stream_range


@dataclass
class ListLog:
    """Events by their sequence. A sequence is drawn before its event is there, and may be drawn in vain."""

    events: dict[int, Recorded] = field(default_factory=dict)
    open: dict[int, Recorded] = field(default_factory=dict)
    numbers: count[int] = field(default_factory=lambda: count(1))
    lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def transaction(self, *stream_ids: str) -> Generator[list[str]]:
        """Draw sequences, and put the events there when the block has ended well."""
        with self.lock:
            written = [_event(next(self.numbers), stream_id) for stream_id in stream_ids]
            self.open |= {recorded.sequence: recorded for recorded in written}
        try:
            yield [f"event {recorded.sequence}" for recorded in written]
            with self.lock:
                self.events |= {recorded.sequence: recorded for recorded in written}
        finally:
            with self.lock:
                for recorded in written:
                    del self.open[recorded.sequence]

    def append(self, *stream_ids: str) -> list[str]:
        """Append events at once."""
        with self.transaction(*stream_ids) as ids:
            return ids


def _event(sequence: int, stream_id: str) -> Recorded:
    record = EventRecord(event_id=f"event {sequence}", event_type="Happened", sequence=sequence, stream_id=stream_id)
    return Recorded(sequence=sequence, event={"n": sequence}, record=record)


class ListSource:
    """A source that keeps the contract; wrong ones change one step of it."""

    def __init__(self, log: ListLog) -> None:
        self.log = log

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return what is there before the first open sequence."""
        check_range(after, limit, until)
        with self.log.lock:
            end = self.final() if until is None else max(after, min(until, self.final()))
            events = self.found(after, limit, end)
            position = events[-1].sequence if len(events) == limit else max(end, after)
            return Batch(
                events=events,
                position=position,
                skipped=self.skipped(after, position),
                is_held=position == self.final() < self.head() and position != until,
            )

    def head(self) -> int:
        """Return the highest sequence."""
        return max(self.log.events, default=0)

    def get(self, event_id: str) -> Recorded | None:
        """Return the event of this id."""
        found = [r for r in list(self.log.events.values()) if r.record is not None and r.record.event_id == event_id]
        return found[0] if found else None

    def final(self) -> int:
        """Return up to where nothing can change any more."""
        return min([self.head(), *(sequence - 1 for sequence in self.log.open)])

    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        """Return the events of a range, as many as were asked for."""
        there = sorted(sequence for sequence in self.log.events if after < sequence <= end)
        return [self.log.events[sequence] for sequence in there[:limit]]

    def skipped(self, after: int, position: int) -> Sequence[Skipped]:
        """Return the holes of a range."""
        empty = [sequence for sequence in range(after + 1, position + 1) if sequence not in self.log.events]
        return [Skipped(first=sequence, last=sequence, reason="removed") for sequence in empty]


class SharingListSource(ListSource):
    """One that leaves out what is not in a share; wrong ones do that wrongly."""

    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return what of the next events is in the share."""
        batch = super().read(after, limit, until)
        return batch if share is None else self.shared(batch, after, share)

    def shared(self, batch: Batch, after: int, share: Share) -> Batch:
        """Leave out what is not in the share; the position stays, and what the log says of the last event."""
        del after
        last = batch.events[-1].record if batch.events else None
        return replace(batch, events=[each for each in batch.events if self.is_in(share, each)], last=last)

    def is_in(self, share: Share, recorded: Recorded) -> bool:
        """Return whether an event is in the share."""
        record = recorded.record
        return record is None or share.has(record.stream_id, record.event_id)


class FindingListSource(ListSource):
    """One that finds streams; wrong ones do that wrongly."""

    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return the newest events of a stream."""
        check_stream_range(before, limit)
        with self.log.lock:
            there = [each for _, each in sorted(self.log.events.items(), reverse=True) if self.is_of(each, stream_id)]
        return [each for each in there if before is None or each.sequence < before][:limit]

    def is_of(self, recorded: Recorded, stream_id: str) -> bool:
        """Return whether an event is of a stream."""
        return recorded.record is not None and recorded.record.stream_id == stream_id


class AsyncListSource:
    """The same, awaited."""

    def __init__(self, log: ListLog) -> None:
        self.wrapped = ListSource(log)

    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return what is there before the first open sequence."""
        return self.wrapped.read(after, limit, until)

    async def head(self) -> int:
        """Return the highest sequence."""
        return self.wrapped.head()
