"""Where events can be read again: the contract between an event log and whoever follows or replays it.

A source is any object with these methods. `checked` is what every reader of the library runs a batch through, so that a
source with a defect does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import lt
from typing import Protocol, runtime_checkable

from ._model import EventRecord
from .errors import InvalidArgument, SourceError

__all__ = [
    "AsyncEventSource",
    "Batch",
    "EventSource",
    "Recorded",
    "Skipped",
    "check_range",
    "checked",
]

MOST_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event as it stands in the log. `record`: what the log itself says of it; None leaves that to `EventMapping`.

    `error`: why the event could not be rebuilt from the log; then `event` is None, and `record` is there.
    """

    sequence: int
    event: object
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
    """

    events: Sequence[Recorded]
    position: int
    skipped: Sequence[Skipped] = ()
    is_held: bool = False


@runtime_checkable
class EventSource(Protocol):
    """An event log that can be read again. Sequences are integers from 1 on; they may have holes.

    Optional: `get(event_id)` returns one event as `Recorded`, or None.
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
    """The same, awaited."""

    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return up to `limit` events with `after` < sequence (<= `until`), without waiting for any."""
        ...

    async def head(self) -> int:
        """Return the highest sequence in the log now, 0 for an empty one."""
        ...


def check_range(after: int, limit: int, until: int | None) -> None:
    """Raise `InvalidArgument` where a source is asked for what cannot be."""
    if after < 0:
        raise InvalidArgument(f"after= takes a sequence, 0 for the beginning, not {after!r}")
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidArgument(f"limit= takes a number of events from 1 to {MOST_AT_ONCE}, not {limit!r}")
    if until is not None and until < after:
        raise InvalidArgument(f"until={until!r} lies before after={after!r}: that range is empty")


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
    return batch
