"""An application's notification log as a source: what its recorder selects, made into domain events by its mapper."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Final
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import Notification, find_id_convertor
from eventsourcing.utils import resolve_topic

from .._frozen import quick
from .._model import EventRecord
from .._source import Batch, Recorded, Share, check_range, check_stream_range
from ..errors import ConfigurationError, SourceError
from ._pages import Page, Pages
from ._recorders import log_of

__all__ = ["ApplicationSource"]

_recorded = quick(Recorded)
_record = quick(EventRecord)
_KEPT: Final = 20_000


class ApplicationSource:
    """The events of one application, in the order of its notification log.

    It reads through the application's own recorder and mapper, so transcodings, compression, encryption, upcasting and
    topics are those of the application. POPO, SQLite and PostgreSQL recorders are read; others are refused with a
    `ConfigurationError`; `DCBApplicationSource` is for DCB applications. An event's id is its originator's id and
    version, as `EventMapping` says.
    """

    def __init__(self, application: Application[Any]) -> None:
        if not isinstance(application, Application):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"ApplicationSource takes an eventsourcing Application, not {type(application).__qualname__}; of a DCB "
                "application DCBApplicationSource reads the events"
            )
        self.application_name = application.name
        self._mapper = application.mapper
        self._recorder = application.recorder
        self._log = log_of(application.recorder)
        self._pages = Pages(select=self._select, position="id", holes=self._log)
        self._positions: dict[tuple[str, int], int] = {}
        self._trimming = Lock()

    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Return the next events; never waits. With a `share` only its own are decoded, of those at `limit` positions.

        Raises `ConfigurationError` for a log that cannot be read safely, `SourceError` where it cannot be reached.
        """
        check_range(after, limit, until)
        return self._batch(self._pages.read(after, limit, until), share)

    def head(self) -> int:
        """Return the highest notification id that can be seen now, 0 for an empty log."""
        return self._recorder.max_notification_id() or 0

    def get(self, event_id: str) -> Recorded | None:
        """Return one event, by "originator id:version"; None where the log has none of this id."""
        stream_id, _, version = event_id.rpartition(":")
        if not version.isascii() or not version.isdigit() or not stream_id:
            return None
        for notification in self._log.of_stream(stream_id, None, 1):
            if notification.originator_version < int(version):
                return None
            position = self._log.position_of(notification.originator_id, int(version))
            if position is None:
                return None
            found = self._select(position - 1, 1, position)
            return self._event(found[0]) if found else None
        return None

    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded]:
        """Return up to `limit` events of one originator below a notification id, newest first."""
        check_stream_range(before, limit)
        found = sorted(self._log.of_stream(stream_id, before, limit), key=lambda each: each.id, reverse=True)
        return [self._event(each) for each in found]

    def notification_id_of(self, event: Any) -> int:
        """Return where one of the application's domain events stands in its log. Raises `SourceError` if nowhere."""
        originator_id, version = event.originator_id, event.originator_version
        known = self._positions.get((str(originator_id), version))
        if known is None:
            known = self._log.position_of(originator_id, version)
        if known is None:
            raise SourceError(
                f"The log of {self.application_name!r} has no event {originator_id}:{version}; is it one of its own?"
            )
        return known

    def _select(self, after: int, limit: int, until: int | None) -> Sequence[Notification]:
        selected: Sequence[Notification] = self._recorder.select_notifications(
            start=after, limit=limit, stop=until, inclusive_of_start=False
        )
        return selected

    def _batch(self, page: Page[Notification], share: Share | None) -> Batch:
        if len(self._positions) > _KEPT:
            self._trim()
        found = page.found
        wanted = found if share is None else [each for each in found if share.has(_stream_of(each), _id_of(each))]
        last = None if share is None or not found else _said_of(found[-1])
        events = tuple(self._event(each) for each in wanted)
        return Batch(events=events, position=page.position, skipped=page.skipped, is_held=page.is_held, last=last)

    def _event(self, notification: Notification) -> Recorded:
        sequence = notification.id
        try:
            event: Any = self._mapper.to_domain_event(notification)
        except Exception as error:
            return _recorded(sequence=sequence, event=None, record=_said_of(notification), error=error)
        stream_id, version = str(event.originator_id), notification.originator_version
        self._positions[stream_id, version] = sequence
        record = _record(
            event_id=f"{stream_id}:{version}",
            event_type=type(event).__name__,
            sequence=sequence,
            stream_id=stream_id,
            stream_version=version,
        )
        return _recorded(sequence=sequence, event=event, record=record)

    def _trim(self) -> None:
        """Forget the older half of the positions; they can be looked up."""
        with self._trimming:
            for key in list(self._positions)[: len(self._positions) - _KEPT // 2]:
                self._positions.pop(key, None)


def _stream_of(notification: Notification) -> str:
    """Return the originator's id as the domain event has it: a column of text may hold a UUID without hyphens."""
    originator_id: UUID | str = notification.originator_id
    if isinstance(originator_id, str):
        try:
            convert = find_id_convertor(resolve_topic(notification.topic), str)
            originator_id = convert(originator_id)
        except Exception:  # the class is not there, or has no such attribute: then it is told as it is stored
            return str(originator_id)
    return str(originator_id)


def _id_of(notification: Notification) -> str:
    return f"{_stream_of(notification)}:{notification.originator_version}"


def _said_of(notification: Notification) -> EventRecord:
    """Say what the log says of an event without making it; its type is named by the last part of its topic."""
    return _record(
        event_id=_id_of(notification),
        event_type=notification.topic.rpartition(":")[2].rpartition(".")[2] or notification.topic,
        sequence=notification.id,
        stream_id=_stream_of(notification),
        stream_version=notification.originator_version,
    )
