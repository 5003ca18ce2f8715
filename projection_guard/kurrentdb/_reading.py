"""The log of a KurrentDB as a source.

KurrentDB gives positions in the order of its log, and shows an event only when all before it can be seen: there are no
holes to hold at. It reads from the positions of events, and refuses all others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from kurrentdbclient import RecordedEvent
from kurrentdbclient import exceptions as client_errors
from kurrentdbclient.client import DEFAULT_EXCLUDE_FILTER
from kurrentdbclient.exceptions import NotFoundError, StreamIsDeletedError, UnknownError

from .._model import EventRecord
from .._source import Batch, Recorded, check_range, check_stream_range
from ..errors import SourceError

if TYPE_CHECKING:
    from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient

__all__ = ["AsyncKurrentDBSource", "Decode", "KurrentDBOptions", "KurrentDBSource"]

Decode = Callable[[RecordedEvent], object]


def _refusals() -> tuple[type[Exception], ...]:
    """Return what the client raises for a position that is no event's; its 1.1 has no name for that."""
    named: type[Exception] = getattr(client_errors, "InvalidCommitPositionError", UnknownError)
    return named, UnknownError


_REFUSED: Final = _refusals()
_NO_STREAM: Final = (NotFoundError, StreamIsDeletedError)


class _Filter(TypedDict):
    """What the client takes to read a part of the log."""

    filter_exclude: Sequence[str]
    filter_include: Sequence[str]
    filter_by_stream_name: bool


class KurrentDBOptions(TypedDict, total=False):
    """What can be said of a source: how an event is made, what is read, and how long a call of the server may take.

    `filter_exclude`, `filter_include` and `filter_by_stream_name` are the client's own; without them system events are
    left out, as the client does. `timeout_seconds` is 30 without more.
    """

    decode: Decode | None
    filter_exclude: Sequence[str]
    filter_include: Sequence[str]
    filter_by_stream_name: bool
    timeout_seconds: float


class _Source:
    """What both sources know without asking anybody."""

    def __init__(
        self,
        *,
        decode: Decode | None = None,
        filter_exclude: Sequence[str] = DEFAULT_EXCLUDE_FILTER,
        filter_include: Sequence[str] = (),
        filter_by_stream_name: bool = False,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._decode = decode
        self.events_are: type | None = RecordedEvent if decode is None else None
        self._timeout_seconds = timeout_seconds
        self._filter: _Filter = {
            "filter_exclude": filter_exclude,
            "filter_include": filter_include,
            "filter_by_stream_name": filter_by_stream_name,
        }
        self._has_streams = tuple(filter_exclude) == DEFAULT_EXCLUDE_FILTER and not filter_include

    def _page(self, after: int, limit: int, until: int | None) -> _Page:
        check_range(after, limit, until)
        return _Page(self._decode, after, limit, until)

    def _recorded(self, event: RecordedEvent) -> Recorded:
        return _recorded(event, self._decode)


class KurrentDBSource(_Source):
    """All events of a KurrentDB, or those that its client's filters let through, as a source; streams are its streams.

    Without more, system events are left out, as the client does. `decode=` makes the application's event of a
    `RecordedEvent`; without it that is the event. `timeout_seconds=` is the most that one call of the server may take.
    The client stays yours to close.
    """

    def __init__(self, client: KurrentDBClient, **options: Unpack[KurrentDBOptions]) -> None:
        super().__init__(**options)
        self._client = client

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return the next events; it ends where the log ends now."""
        page = self._page(after, limit, until)
        for start in page.starts():
            with page.reading(start):
                found = self._client.read_all(
                    commit_position=start, limit=page.asks, timeout=self._timeout_seconds, **self._filter
                )
                with found:
                    _take(found, page.is_full_with)
        return page.batch()

    def head(self) -> int:
        """Return the highest commit position that can be read, 0 for an empty log."""
        return self._client.get_commit_position(timeout=self._timeout_seconds, **self._filter)

    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return up to `limit` events of one stream, newest first; None where a filter of one's own leaves some out."""
        check_stream_range(before, limit)
        if not self._has_streams:
            return None
        part = _Part(before, limit)
        try:
            with self._client.read_stream(stream_id, backwards=True, timeout=self._timeout_seconds) as found:
                _take(found, part.is_full_with)
        except _NO_STREAM:
            return []
        return [self._recorded(event) for event in part.events]


class AsyncKurrentDBSource(_Source):
    """What `KurrentDBSource` is, awaited; with an `AsyncKurrentDBClient`."""

    def __init__(self, client: AsyncKurrentDBClient, **options: Unpack[KurrentDBOptions]) -> None:
        super().__init__(**options)
        self._client = client

    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return the next events; it ends where the log ends now."""
        page = self._page(after, limit, until)
        for start in page.starts():
            with page.reading(start):
                found = await self._client.read_all(
                    commit_position=start, limit=page.asks, timeout=self._timeout_seconds, **self._filter
                )
                async with found:
                    async for event in found:
                        if page.is_full_with(event):
                            break
        return page.batch()

    async def head(self) -> int:
        """Return the highest commit position that can be read, 0 for an empty log."""
        return await self._client.get_commit_position(timeout=self._timeout_seconds, **self._filter)

    async def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        """Return up to `limit` events of one stream, newest first; None where a filter of one's own leaves some out."""
        check_stream_range(before, limit)
        if not self._has_streams:
            return None
        part = _Part(before, limit)
        try:
            found = await self._client.read_stream(stream_id, backwards=True, timeout=self._timeout_seconds)
            async with found:
                async for event in found:
                    if part.is_full_with(event):
                        break
        except _NO_STREAM:
            return []
        return [self._recorded(event) for event in part.events]


def _take(events: Iterable[RecordedEvent], is_full_with: Callable[[RecordedEvent], bool]) -> None:
    for event in events:
        if is_full_with(event):
            return


class _Page:
    """Fills a batch, and knows where to begin: the server refuses any position but an event's."""

    def __init__(self, decode: Decode | None, after: int, limit: int, until: int | None) -> None:
        self._decode, self._after, self._limit, self._until = decode, after, limit, until
        self._events: list[Recorded] = []
        self._is_read = False
        self._refusal: Exception | None = None

    @property
    def asks(self) -> int:
        """How many events to ask for: the first one may be that at `after`, which is not wanted."""
        return self._limit + 1

    def starts(self) -> Iterator[int | None]:
        """Name the positions to begin at, one after the other, until one of them is an event's.

        `after` is one where reading goes on behind an event. Where it begins at one, to read that again or for a range
        that a person named, the one behind `after` is.
        """
        places: list[int | None] = [self._after, self._after + 1] if self._after else [None]
        if self._until == self._after + 1:
            places.reverse()
        for place in places:
            if not self._is_read:
                yield place

    @contextmanager
    def reading(self, start: int | None) -> Generator[None]:
        """Remember that what the block reads was read; what refuses the place to begin at leaves it to the next one."""
        try:
            yield
        except _REFUSED as error:
            if start is None or self._events:
                raise
            self._refusal = error
        else:
            self._is_read = True

    def is_full_with(self, event: RecordedEvent) -> bool:
        """Take an event, and say whether that is enough."""
        if event.commit_position <= self._after:
            return False
        if self._until is not None and event.commit_position > self._until:
            return True
        self._events.append(_recorded(event, self._decode))
        return len(self._events) == self._limit or event.commit_position == self._until

    def batch(self) -> Batch:
        """Return what was read. It comes to an event's position, and to no other: the next reading begins there."""
        if not self._is_read:
            raise SourceError(
                f"KurrentDB has no event at position {self._after}, nor at {self._after + 1}, to read from; "
                "name the position of an event, or 0 for the beginning"
            ) from self._refusal
        return Batch(events=self._events, position=self._events[-1].sequence if self._events else self._after)


class _Part:
    """The newest events of a stream below a position."""

    def __init__(self, before: int | None, limit: int) -> None:
        self._before, self._limit = before, limit
        self.events: list[RecordedEvent] = []

    def is_full_with(self, event: RecordedEvent) -> bool:
        """Take an event, if it is one of them, and say whether that is enough."""
        is_below = self._before is None or event.commit_position < self._before
        if is_below and not event.is_system_event:
            self.events.append(event)
        return len(self.events) == self._limit


def _recorded(event: RecordedEvent, decode: Decode | None) -> Recorded:
    made: object = None
    refused: Exception | None = None
    try:
        made = event if decode is None else decode(event)
    except Exception as error:
        refused = error
    record = EventRecord(
        event_id=str(event.id),
        event_type=event.type,
        sequence=event.commit_position,
        stream_id=event.stream_name,
        stream_version=event.stream_position,
        occurred_at=event.recorded_at,
    )
    return Recorded(sequence=event.commit_position, event=made, record=record, error=refused)
