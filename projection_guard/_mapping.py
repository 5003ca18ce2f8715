"""What an event says of itself: its id, type, stream and position, read off any object or dict.

Known shapes come first, because one attribute name means different things in different libraries: `id` is the global
position in one, `position` is per stream in another, `version` is often the schema's. Then conventions. What is found
once for a class is kept, so that reading costs a few attribute lookups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from ._model import EventRecord
from ._shapes import Names, Reader, shape_of
from .errors import ConfigurationError, EventError

__all__ = ["EventMapping"]

Field = str | Reader | None
_FIELDS: Final = ("event_id", "event_type", "sequence", "stream_id", "stream_version", "occurred_at")
_LONGEST: Final = 255
_MISSING: Final = object()
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read each field of one class of events; None where it has none."""

    event_id: Reader | None
    event_type: Reader | None
    sequence: Reader | None
    stream_id: Reader | None
    stream_version: Reader | None
    occurred_at: Reader | None


class EventMapping:
    """Reads events. Each field may be given as a name ("id", a path "metadata.position") or as a callable of the event.

    What is not given is detected: by the shapes of known libraries, then by common names. A missing id or type is an
    `EventError` that names the field. `occurred_at` may be a datetime (naive means UTC), ISO 8601 text or epoch
    seconds.
    """

    def __init__(
        self,
        *,
        event_id: Field = None,
        event_type: Field = None,
        sequence: Field = None,
        stream_id: Field = None,
        stream_version: Field = None,
        occurred_at: Field = None,
    ) -> None:
        given: dict[str, Field] = dict(
            zip(_FIELDS, (event_id, event_type, sequence, stream_id, stream_version, occurred_at), strict=True)
        )
        for name, field in given.items():
            if field is not None and not isinstance(field, str) and not callable(field):
                raise ConfigurationError(f"EventMapping({name}=...) takes a name, a path or a callable, not {field!r}")
        self._given = given
        self._plans: dict[object, _Plan] = {}

    def read(self, event: object) -> EventRecord:
        """Return what an event says of itself. Raises `EventError` where its id or type cannot be told."""
        try:
            return self._record(event)
        except EventError:
            raise
        except Exception as error:  # an attribute that raises, a value that cannot be compared
            raise EventError(f"{_named(event)}: reading it failed with {type(error).__name__}") from error

    def _record(self, event: object) -> EventRecord:
        given = event  # a name of its own: type checkers would take `event` for a dict of unknowns from here on
        key = _key_of_dict(event) if isinstance(given, dict) else type(event)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(event)
            if len(self._plans) < 10_000:
                self._plans[key] = plan
        sequence = _number(event, "sequence", plan.sequence)
        return EventRecord(
            event_id=_text(event, "event_id", plan.event_id, self._given["event_id"]),
            event_type=_type(event, plan.event_type, self._given["event_type"]),
            sequence=sequence,
            stream_id=None if plan.stream_id is None else _optional_text(event, "stream_id", plan.stream_id),
            stream_version=_number(event, "stream_version", plan.stream_version),
            occurred_at=_time(event, plan.occurred_at),
        )

    def _plan(self, event: object) -> _Plan:
        names = shape_of(event)
        readers = {name: self._reader(name, names, event) for name in _FIELDS}
        return _Plan(**readers)

    def _reader(self, name: str, names: Names, event: object) -> Reader | None:
        given = self._given[name]
        if callable(given):
            return given
        if given is not None:
            return _follow(given)
        readers = [path if callable(path) else _follow(path) for path in names[name]]
        if not _has_fixed_fields(event):
            return _first_of(readers)
        found = [reader for reader in readers if reader(event) is not _MISSING]
        return found[0] if len(found) == 1 else _first_of(found)


def _key_of_dict(event: Any) -> object:
    return dict, frozenset(event)


def _is_mapping(event: object) -> bool:
    return isinstance(event, Mapping)


def _has_fixed_fields(event: object) -> bool:
    """Return whether all events of this class (all dicts of these keys) have the same fields as this one."""
    kind = type(event)
    marks = ("__dataclass_fields__", "__attrs_attrs__", "model_fields", "_fields")
    return _is_mapping(event) or any(hasattr(kind, mark) for mark in marks)


def _follow(path: str) -> Reader:
    """Return what reads a path: an attribute or a key at each step."""
    steps = path.split(".")
    if len(steps) == 1:
        return lambda event: _get(event, path)

    def read(event: object) -> object:
        for step in steps:
            event = _get(event, step)
            if event is None or event is _MISSING:
                return _MISSING
        return event

    return read


def _first_of(readers: Sequence[Reader]) -> Reader | None:
    """Look at every place anew: the first event of a class may lack what a later one has."""
    if not readers:
        return None

    def read(event: object) -> object:
        for reader in readers:
            value = reader(event)
            if value is not _MISSING and value is not None:
                return value
        return _MISSING

    return read


def _get(owner: object, step: str) -> object:
    if isinstance(owner, Mapping):
        return owner.get(step, _MISSING)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return getattr(owner, step, _MISSING)


def _value(event: object, name: str, reader: Reader) -> object:
    try:
        value = reader(event)
    except Exception as error:
        raise EventError(f"{_named(event)}: reading {name} failed with {type(error).__name__}") from error
    return None if value is _MISSING else value


def _named(event: object) -> str:
    return f"An event of class {type(event).__qualname__}"


def _no_event(event: object) -> str | None:
    """Say what was given for an event by mistake."""
    kind = type(event)
    if event is None:
        return "None was given for an event"
    if isinstance(event, type):
        return f"The class {event.__qualname__} was given for an event; give an instance of it"
    if kind is tuple or issubclass(kind, (list, set, frozenset, Iterator)):
        return f"A {kind.__name__} was given for an event; give one event, or several to publish_all(events)"
    return None


def _text(event: object, name: str, reader: Reader | None, given: object) -> str:
    value = None if reader is None else _optional_text(event, name, reader)
    if value is None:
        if (no_event := _no_event(event)) is not None:
            raise EventError(no_event)
        where = f"EventMapping({name}={given!r}) finds none; " if isinstance(given, str) else ""
        raise EventError(f"{_named(event)} has no {name}; {where}say where it is with EventMapping({name}=...)")
    return value


def _type(event: object, reader: Reader | None, given: object) -> str:
    """Read an event's type; that of an object which says nothing is its class's name."""
    named = None if reader is None else _optional_text(event, "event_type", reader)
    if named is None and not _is_mapping(event):
        return type(event).__name__
    return _text(event, "event_type", reader, given) if named is None else named


def _optional_text(event: object, name: str, reader: Reader) -> str | None:
    value = _value(event, name, reader)
    if value is None or value == "":
        return None
    text = value if type(value) is str else _as_text(event, name, value)
    if len(text) > _LONGEST:
        raise EventError(f"{_named(event)}: {name} has {len(text)} characters, more than {_LONGEST}")
    if "\0" in text or not (text.isascii() or _is_storable(text)):
        raise EventError(f"{_named(event)}: {name} has a NUL or half a surrogate pair, which no database stores")
    return text


def _as_text(event: object, name: str, value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, type):
        value = value.__name__
    kind = type(value)
    if isinstance(value, bool | float | bytes | dict | list | tuple | set):
        raise EventError(f"{_named(event)}: {name} is a {kind.__name__}; it has to be text, a number or a UUID")
    return str(value)


def why_not_storable(record: EventRecord) -> str | None:
    """Return why what a log says of an event cannot be stored, if so: the rules that hold for `EventMapping`, too."""
    together = f"{record.event_id}{record.event_type}{record.stream_id}"
    if len(together) <= _LONGEST and together.isascii() and "\0" not in together:
        return None  # as almost always
    for name, text in (
        ("event_id", record.event_id),
        ("event_type", record.event_type),
        ("stream_id", record.stream_id),
    ):
        if text is None:
            continue
        if len(text) > _LONGEST:
            return f"{name} has {len(text)} characters, more than {_LONGEST}"
        if "\0" in text or not (text.isascii() or _is_storable(text)):
            return f"{name} has a NUL or half a surrogate pair, which no database stores"
    return None


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(event: object, name: str, reader: Reader | None) -> int | None:
    value = None if reader is None else _value(event, name, reader)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise EventError(f"{_named(event)}: {name} is no whole number of 0 to 2^63-1 but a {type(value).__name__}")
    return int(value)


def _time(event: object, reader: Reader | None) -> datetime | None:
    value = None if reader is None else _value(event, "occurred_at", reader)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            value = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise EventError(f"{_named(event)}: occurred_at is no time ({type(error).__name__})") from error
    if not isinstance(value, datetime):
        raise EventError(f"{_named(event)}: occurred_at is no time but a {type(value).__name__}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
