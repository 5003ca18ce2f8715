"""An event log that is any iterable: a list, a file with an event on each line, a generator that begins at a position.

What it has to be: it can be read again from a position, gives its events in their order, ends where the log ends now
instead of waiting, and only ever grows at its end. An iterator that is used up by reading is no log.
"""

from __future__ import annotations

import json
import threading
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from ._mapping import EventMapping, Field
from ._model import EventRecord
from ._source import Batch, Recorded, check_range
from .errors import ConfigurationError, SourceError

__all__ = ["AsyncIterableSource", "IterableSource", "json_lines"]

After = Callable[[int], Iterable[object]]
AsyncAfter = Callable[[int], AsyncIterable[object] | Iterable[object]]
_LARGEST: Final = 2**63 - 1


class IterableSource:
    """A source over `events(after)`, which gives the events that stand after a position; or over a list of events.

    `sequence=` says where an event has its position: a name, a path or a callable. Without it events are numbered by
    their places: `events(after)` then begins with the one of number after + 1, and there are no holes. What is given as
    `Recorded` says its position itself. `head=` returns the last position; without it the log is read to its end, each
    time from the furthest place that is known. A list may grow at its end, and only there.
    """

    def __init__(
        self, events: After | Collection[object], *, sequence: Field = None, head: Callable[[], int] | None = None
    ) -> None:
        self._log = _Log(_after(events, is_numbered=sequence is None), sequence)
        self._given_head = head

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return the next events."""
        page = _Page(self._log, after, limit, until)
        with _ended(self._log.events(after)) as events:
            for event in events:
                if page.is_full_with(event):
                    break
        return page.batch()

    def head(self) -> int:
        """Return the last position, 0 for an empty log."""
        if self._given_head is not None:
            return self._given_head()
        page = _End(self._log)
        with _ended(self._log.events(page.last)) as events:
            for event in events:
                page.take(event)
        return page.end()


class AsyncIterableSource:
    """What `IterableSource` is, awaited: `events(after)` gives an async iterator or a plain one, `head=` is awaited."""

    def __init__(
        self,
        events: AsyncAfter | Collection[object],
        *,
        sequence: Field = None,
        head: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._log = _Log(_after(events, is_numbered=sequence is None), sequence)
        self._given_head = head

    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return the next events."""
        page = _Page(self._log, after, limit, until)
        await _each(self._log.events(after), page.is_full_with)
        return page.batch()

    async def head(self) -> int:
        """Return the last position, 0 for an empty log."""
        if self._given_head is not None:
            return await self._given_head()
        page = _End(self._log)
        await _each(self._log.events(page.last), page.take)
        return page.end()


def json_lines(path: str | Path, decode: Callable[[Any], object] | None = None) -> Callable[[int], Iterator[Recorded]]:
    """Return what reads a file of JSON, an event on each line, for `IterableSource(json_lines(path))`.

    A line's position is the byte at which it begins, plus one, so that reading goes on where it was without counting
    lines. A last line without an end is one that is still being written. `decode=` makes the event of what the JSON
    says; a line that cannot be read stops no other one. The file may be missing as long as it is empty.
    """
    file = Path(path)

    def after(position: int) -> Iterator[Recorded]:
        if not file.exists():
            return
        with file.open("rb") as opened:
            opened.seek(max(position - 1, 0))
            if position and opened.read(1) != b"\n":  # in the middle of a line: that one begins before
                opened.readline()
            begins = opened.tell()
            for line in opened:
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    yield _line(line, begins, decode)
                begins += len(line)

    return after


def _line(line: bytes, begins: int, decode: Callable[[Any], object] | None) -> Recorded:
    try:
        said = json.loads(line)
        return Recorded(sequence=begins + 1, event=said if decode is None else decode(said))
    except Exception as error:
        record = EventRecord(event_id=f"byte-{begins}", event_type="unreadable line", sequence=begins + 1)
        return Recorded(sequence=begins + 1, event=None, record=record, error=error)


class _Log:
    """What both sources know: how to read from a position, where an event stands, and how far the log is known."""

    def __init__(self, after: Callable[[int], Any], sequence: Field) -> None:
        self.events = after
        self.known = 0
        self.lock = threading.Lock()
        self._mapping = None if sequence is None else EventMapping(sequence=sequence, event_id=_name, event_type=_name)

    def recorded(self, event: object, before: int) -> Recorded:
        """Return an event with its position; `before` is that of the one before it."""
        if isinstance(event, Recorded):
            return event
        if self._mapping is None:
            return Recorded(sequence=before + 1, event=event)
        sequence = self._mapping.read(event).sequence
        if sequence is None:
            raise SourceError("An event of the iterable has no position where sequence= says that it is")
        return Recorded(sequence=sequence, event=event)


def _name(event: object) -> str:
    """Say something where only the position matters: what an event is, the guard's own mapping says."""
    return type(event).__name__[:255]


class _Page:
    """Fills a batch, event by event."""

    def __init__(self, log: _Log, after: int, limit: int, until: int | None) -> None:
        check_range(after, limit, until)
        self._log, self._after, self._limit = log, after, limit
        self._until = _LARGEST if until is None else until
        self._events: list[Recorded] = []
        self._last = self._position = after

    def is_full_with(self, event: object) -> bool:
        """Take an event, and say whether that is enough."""
        recorded = self._log.recorded(event, self._last)
        self._last = recorded.sequence
        if recorded.sequence <= self._after:  # a log that begins at its beginning, whatever it is asked for
            return False
        if recorded.sequence > self._until:
            self._position = self._until  # nothing comes to stand before what is there
            return True
        self._events.append(recorded)
        self._position = recorded.sequence
        return len(self._events) == self._limit or recorded.sequence == self._until

    def batch(self) -> Batch:
        """Return what was taken."""
        return Batch(events=self._events, position=self._position)


class _End:
    """Finds the log's end from where it is known."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self.last = log.known

    def take(self, event: object) -> bool:
        """Pass an event; there is no end to it."""
        self.last = max(self.last, self._log.recorded(event, self.last).sequence)
        return False

    def end(self) -> int:
        """Return the last position, and remember it."""
        with self._log.lock:
            self._log.known = max(self._log.known, self.last)
        return self.last


def _after(events: Any, *, is_numbered: bool) -> Callable[[int], Any]:
    """Return what gives the events after a position. Raises `ConfigurationError` for what cannot be read again."""
    given = events  # a name of its own: type checkers would take `events` for a mapping of unknowns from here on
    if isinstance(events, Iterator | AsyncIterator):
        raise ConfigurationError(
            "An iterator can be read once, and a log is read again; give what makes one: lambda after: ..."
        )
    if isinstance(events, Collection) and not isinstance(events, str | bytes | Mapping):
        there = cast("Collection[object]", events)
        if not is_numbered:
            return lambda _: there
        if isinstance(there, Sequence):
            return lambda after: (there[place] for place in range(after, len(there)))
        return lambda after: islice(there, min(after, len(there)), None)
    if not callable(given):
        raise ConfigurationError(f"A log is a list of events or a function of a position, not {type(given).__name__}")
    return cast("Callable[[int], Any]", given)


@contextmanager
def _ended(events: Iterable[object]) -> Generator[Iterable[object]]:
    """End a generator that is left before its end, so that its file is closed now and not by chance."""
    try:
        yield events
    finally:
        if isinstance(events, Generator):
            events.close()


async def _each(events: AsyncIterable[object] | Iterable[object], is_enough: Callable[[object], bool]) -> None:
    """Take one event after the other, until it is enough."""
    if not isinstance(events, AsyncIterable):
        with _ended(events) as there:
            for event in there:
                if is_enough(event):
                    return
        return
    try:
        async for event in events:
            if is_enough(event):
                return
    finally:
        close: Any = getattr(events, "aclose", None)
        if close is not None:
            await close()
