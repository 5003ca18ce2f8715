"""Where events can be read again: the contract between an event log and whoever follows or replays it.

A source is any object with these methods. `checked` is what every reader of the library runs a batch through, so that a
source with a defect does no harm.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5
from itertools import pairwise
from operator import lt
from typing import Protocol, cast, runtime_checkable

from ._model import EventRecord
from .errors import InvalidArgument, SourceError

__all__ = [
    "AsyncEventSource",
    "Batch",
    "EventSource",
    "Recorded",
    "SeenTypes",
    "Share",
    "Skipped",
    "check_range",
    "check_stream_range",
    "checked",
    "checked_stream",
    "key_of",
    "partition_of",
    "takes_share",
]

MOST_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event as it stands in the log. `record`: what the log itself says of it; None leaves that to `EventMapping`.

    `error`: why the event could not be rebuilt from the log; then `event` is None, and `record` is there.
    """

    sequence: int
    event: object = field(repr=False)
    record: EventRecord | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A range of sequences, both ends included, in which there is nothing, and why nothing will come there.

    `is_given_up`: something might come there; the source was told not to wait for that any longer.
    """

    first: int
    last: int
    reason: str
    is_given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events in the log's order. All that will ever stand at or below `position` is in this batch or an earlier one.

    `skipped` are the holes among them. `is_held`: there is more in the log, behind a hole that may still be filled.
    `last`: what the log says of the last event at or below `position`, where that is left out of `events` as not in the
    reader's share; None where it is the last one of `events`, or not known.
    """

    events: Sequence[Recorded]
    position: int
    skipped: Sequence[Skipped] = ()
    is_held: bool = False
    last: EventRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTypes:
    """Which types of events a bounded look at a log has `found`, among its oldest and its newest `limit` events.

    `is_complete`: what was asked for and is not among them is nowhere in the log.
    """

    found: frozenset[str]
    limit: int
    is_complete: bool


def partition_of(key: str, of: int) -> int:
    """Return the part of the streams that a stream's id falls into: the same on every machine, in every release.

    The first four bytes of the MD5 of its UTF-8, modulo the number of parts.
    """
    return int.from_bytes(md5(key.encode(errors="surrogatepass"), usedforsecurity=False).digest()[:4]) % of


def key_of(record: EventRecord) -> str:
    """Return by what an event falls into a part: its stream's id, or its own where it has none."""
    return record.event_id if record.stream_id is None else record.stream_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A reader's part of the streams: of so many `partitions` that the streams are divided `of`, these are his."""

    partitions: frozenset[int]
    of: int

    def has(self, stream_id: str | None, event_id: str) -> bool:
        """Return whether an event is in it; one without a stream goes by its own id."""
        return partition_of(event_id if stream_id is None else stream_id, self.of) in self.partitions


@runtime_checkable
class EventSource(Protocol):
    """An event log that can be read again. Sequences are integers from 1 on; they may have holes.

    Optional: `get(event_id)` returns one event as `Recorded`, or None; `read(..., *, share: Share | None = None)` may
    leave out the events that are not in a share, while positions and holes stay those of the whole log;
    `read_stream(stream_id, before: int | None, limit)` returns one stream's events, newest first, for people to see;
    `types(names, limit)` returns `SeenTypes`, for the doctor; and `events_are` is the class of which all its events
    are, None where that is not known: a projection of other classes is refused when it is registered.
    """

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return up to `limit` events with `after` < sequence (<= `until`), without waiting for any.

        0 is the beginning. Nothing may appear later at or below the position that is returned.
        """
        ...

    def head(self) -> int:
        """Return the highest sequence in the log now, 0 for an empty one."""
        ...


@runtime_checkable
class AsyncEventSource(Protocol):
    """What `EventSource` is, awaited."""

    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return up to `limit` events with `after` < sequence (<= `until`), without waiting for any."""
        ...

    async def head(self) -> int:
        """Return the highest sequence in the log now, 0 for an empty one."""
        ...


def takes_share(source: object) -> bool:
    """Return whether a source can leave out what is not in a reader's share: its `read` has the parameter."""
    try:
        return "share" in inspect.signature(cast("EventSource", source).read).parameters
    except (TypeError, ValueError):  # it is made in a way that does not tell
        return False


def check_range(after: int, limit: int, until: int | None) -> None:
    """Raise `InvalidArgument` where a source is asked for what cannot be."""
    if after < 0:
        raise InvalidArgument(f"after= takes a sequence, 0 for the beginning, not {after!r}")
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidArgument(f"limit= takes a number of events from 1 to {MOST_AT_ONCE}, not {limit!r}")
    if until is not None and until < after:
        raise InvalidArgument(f"until={until!r} lies before after={after!r}: that range is empty")


def check_stream_range(before: int | None, limit: int) -> None:
    """Raise `InvalidArgument` where a source is asked for what of a stream cannot be."""
    if before is not None and before < 0:
        raise InvalidArgument(f"before= takes a sequence, None for the newest events, not {before!r}")
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidArgument(f"limit= takes a number of events from 1 to {MOST_AT_ONCE}, not {limit!r}")


def checked_stream(events: Sequence[Recorded], before: int | None, limit: int) -> Sequence[Recorded]:
    """Return a stream's events that keep the contract. Raises `SourceError`, which says what the source did wrong."""
    if len(events) > limit:
        raise SourceError(f"The source returned {len(events)} events of a stream where at most {limit} were asked for")
    if events and before is not None and events[0].sequence >= before:
        raise SourceError(f"The source was asked for events before {before} and returned {events[0].sequence}")
    _check_events(events[::-1], [recorded.sequence for recorded in events[::-1]])
    return events


def _check_events(events: Sequence[Recorded], sequences: Sequence[int]) -> None:
    is_rising = all(map(lt, sequences, sequences[1:]))
    for before, recorded in () if is_rising else pairwise(events):
        if recorded.sequence == before.sequence:
            raise SourceError(f"The source returned sequence {recorded.sequence} twice")
        if recorded.sequence < before.sequence:
            raise SourceError(
                f"The source returned sequence {recorded.sequence} after {before.sequence}: that is not the log's order"
            )
    for recorded in events:
        if recorded.error is not None and recorded.record is None:
            raise SourceError(f"The source could not rebuild sequence {recorded.sequence}, nor say which event it is")


def _check_last(named: int | None, sequences: Sequence[int], position: int) -> None:
    if named is None or named > position:
        raise SourceError(f"The source has come to {position}, and names an event of sequence {named} as the last one")
    if sequences and named < sequences[-1]:
        raise SourceError(f"The source returned sequence {sequences[-1]}, and names that of {named} as the last one")


def checked(batch: Batch, after: int, limit: int, until: int | None = None) -> Batch:
    """Return a batch that keeps the contract. Raises `SourceError`, which says what the source did wrong."""
    sequences = [recorded.sequence for recorded in batch.events]
    if len(sequences) > limit:
        raise SourceError(f"The source returned {len(sequences)} events where at most {limit} were asked for")
    if sequences and sequences[0] <= after:
        raise SourceError(f"The source was asked for events after {after} and returned sequence {sequences[0]}")
    _check_events(batch.events, sequences)
    last = sequences[-1] if sequences else after
    if until is not None and last > until:
        raise SourceError(f"The source was asked for events up to {until} and returned sequence {last}")
    if batch.position < last:
        raise SourceError(f"The source says that it has come to {batch.position}, and returned sequence {last}")
    if until is not None and batch.position > max(until, after):
        raise SourceError(f"The source says that it has come to {batch.position}, and was asked up to {until}")
    if batch.last is not None:
        _check_last(batch.last.sequence, sequences, batch.position)
    return batch
