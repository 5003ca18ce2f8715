"""A DCB application's log as a source: what its recorder reads, made into tagged decisions by its mapper.

Its events have tags and no stream, and one event may have several tags: DCB (dynamic consistency boundary) orders
decisions by the queries that they were made by. So which tag's order a projection is to keep is for the application to
say: `stream_of=by_tag("course-")` takes the one tag that begins so for the event's stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from eventsourcing.dcb.api import DCBEvent, DCBRecorder, DCBSequencedEvent
from eventsourcing.dcb.application import DCBApplication
from eventsourcing.dcb.domain import Tagged

from .._model import EventRecord
from .._source import Batch, Recorded, Share, check_range
from ..errors import ConfigurationError
from ._pages import Holes, Pages
from ._recorders import is_of

__all__ = ["DCBApplicationSource", "TaggedDecision", "by_tag"]

StreamOf = Callable[[Sequence[str]], str | None]
_BEYOND_ANY: Final = 2**62


class TaggedDecision(Tagged[Any]):
    """An event of a DCB application: the library's `Tagged`, and where it stands in the log.

    Without a mapper (`MAPPER_TOPIC`) its `decision` is the recorder's `DCBEvent`.
    """

    def __init__(self, tags: Sequence[str], decision: object, position: int) -> None:
        super().__init__(tags=list(tags), decision=decision)
        self.position = position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaggedDecision) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.position)

    def __repr__(self) -> str:
        return f"TaggedDecision({self.tags!r}, {self.decision!r}, {self.position})"


def by_tag(prefix: str) -> StreamOf:
    """Return what takes the one tag that begins so for an event's stream; None where an event has none, or several.

    One that has several is in several streams: a projection that keeps the order of streams has no place for it, and
    keeps it as failed; one with order="global" applies it.
    """
    if not prefix:
        raise ConfigurationError(f"by_tag takes how the tags of a stream begin, such as 'course-', not {prefix!r}")

    def stream_of(tags: Sequence[str]) -> str | None:
        found = {tag for tag in tags if tag.startswith(prefix)}
        return found.pop() if len(found) == 1 else None

    return stream_of


class DCBApplicationSource:
    """The events of one DCB application, in the order of their positions.

    It reads through the application's own recorder and mapper; handlers are given a `TaggedDecision`. An event's id is
    its position, its type the name of its decision's class. `stream_of(tags)` names the stream of an event, such as
    `by_tag("course-")`; with `stream_of=None` no event has one, and projections are to have order="global" or "none".
    The library's recorders in memory and on PostgreSQL are read; others are refused with a `ConfigurationError`.
    """

    def __init__(self, application: DCBApplication, *, stream_of: StreamOf | None) -> None:
        if not isinstance(application, DCBApplication):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"DCBApplicationSource takes an eventsourcing DCBApplication, not {type(application).__qualname__}"
            )
        self.application_name = application.name
        self._mapper: Any = getattr(application, "mapper", None)
        self._recorder = application.recorder
        self._stream_of = stream_of
        self._pages = Pages(select=self._select, position="position", holes=_holes_of(application.recorder))

    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return the next events; never waits. With a `share` only its own are decoded, of those at `limit` positions.

        Raises `ConfigurationError` for a log that cannot be read safely, `SourceError` where it cannot be reached.
        """
        check_range(after, limit, until)
        page = self._pages.read(after, limit, until)
        said = [(each, *self._said_of(each)) for each in page.found]
        events = [
            self._event(each, record, error)
            for each, record, error in said
            if share is None or share.has(record.stream_id, record.event_id)
        ]
        last = None if share is None or not said else said[-1][1]
        return Batch(events=events, position=page.position, skipped=page.skipped, is_held=page.is_held, last=last)

    def head(self) -> int:
        """Return the highest position that can be seen now, 0 for an empty log."""
        return self._recorder.read(after=_BEYOND_ANY).head or 0

    def get(self, event_id: str) -> Recorded | None:
        """Return one event by its position; None where there is none."""
        if not event_id.isascii() or not event_id.isdigit() or not 0 < int(event_id) < _BEYOND_ANY:
            return None
        position = int(event_id)
        found = self._select(position - 1, 1, position)
        return self._event(found[0], *self._said_of(found[0])) if found and str(position) == event_id else None

    def _select(self, after: int, limit: int, until: int | None) -> Sequence[DCBSequencedEvent]:
        found = self._recorder.read(after=after, limit=limit)
        return [each for each in found if until is None or each.position <= until]

    def _said_of(self, sequenced: DCBSequencedEvent) -> tuple[EventRecord, Exception | None]:
        """Return what the log says of an event, and why its stream cannot be told, if so."""
        event, stream_id, error = sequenced.event, None, None
        try:
            stream_id = None if self._stream_of is None else self._stream_of(tuple(event.tags))
        except Exception as refused:
            error = refused
        record = EventRecord(
            event_id=str(sequenced.position),
            event_type=self._type_of(event),
            sequence=sequenced.position,
            stream_id=stream_id,
        )
        return record, error

    def _type_of(self, event: DCBEvent) -> str:
        """Return the name of the decision's class; without a mapper, a type is not the topic of one."""
        if self._mapper is None:
            return event.type
        return event.type.rpartition(":")[2].rpartition(".")[2] or event.type

    def _event(self, sequenced: DCBSequencedEvent, record: EventRecord, error: Exception | None) -> Recorded:
        event, decision = sequenced.event, None
        if error is None:
            try:
                decision = event if self._mapper is None else self._mapper.to_domain_event(event).decision
            except Exception as refused:
                error = refused
        if error is not None:
            return Recorded(sequence=sequenced.position, event=None, record=record, error=error)
        tagged = TaggedDecision(event.tags, decision, sequenced.position)
        return Recorded(sequence=sequenced.position, event=tagged, record=record)


class _InMemory:
    """A list: there are no holes."""

    def final_up_to(self, hole: tuple[int, int], seen: int) -> int:
        del hole
        return seen


def _holes_of(recorder: DCBRecorder) -> Holes:
    """Return what knows about a recorder's holes. Raises `ConfigurationError` for one that cannot be read safely."""
    if is_of(recorder, "eventsourcing.dcb.popo", "InMemoryDCBRecorder"):
        return _InMemory()
    if is_of(recorder, "eventsourcing.dcb.postgres_tt", "PostgresDCBRecorderTT"):
        from ._on_postgresql import HolesOnPostgresql  # needs psycopg, which this recorder has

        return HolesOnPostgresql(recorder, position="id")
    raise ConfigurationError(
        f"{type(recorder).__qualname__} is no recorder of eventsourcing's dcb.popo or dcb.postgres_tt: whether holes "
        "in its log are final is not known. Write an EventSource that knows it (docs/sources.md)"
    )
