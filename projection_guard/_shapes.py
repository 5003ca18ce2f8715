"""The shapes of events that known libraries have, and the names that are common elsewhere.

A shape is told by the names of its fields (and, where they are not enough, the module of its class); no library is
imported. Each lists, for a field of the guard, the paths to look at, the best first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, cast

__all__ = ["Names", "Reader", "shape_of"]

Reader = Callable[[object], object]
Names = Mapping[str, Sequence[str | Reader]]

_LONGEST: Final = 255


def _originator_and_version(event: object) -> object:
    if isinstance(event, Mapping):
        named = cast("Mapping[str, object]", event)
        return f"{named['originator_id']}:{named['originator_version']}"
    return f"{getattr(event, 'originator_id', '')}:{getattr(event, 'originator_version', '')}"


def _attribute(event: object, name: str) -> object:
    """Return an attribute of a CloudEvent: of a dict, of a model with fields, or of either API of the SDK."""
    if isinstance(event, Mapping):
        return cast("Mapping[str, object]", event).get(name)
    if hasattr(event, "specversion"):
        return getattr(event, name, None)
    get_attributes: object = getattr(event, "get_attributes", None)
    found = get_attributes() if callable(get_attributes) else None
    return cast("Mapping[str, object]", found).get(name) if isinstance(found, Mapping) else None


def _source_and_id(event: object) -> object:
    """Return what is unique of a CloudEvent: its id is so for its source only. A source, as any URI, has no space."""
    source, event_id = _attribute(event, "source"), _attribute(event, "id")
    if source is None or event_id is None:
        return None
    if len(f"{source} {event_id}") > _LONGEST:
        source = sha256(str(source).encode(errors="surrogatepass")).hexdigest()
    return f"{source} {event_id}"


def _key(event: object) -> object:
    """Return what a CloudEvent's order is kept by: the key that its producer partitions by, or what it is about."""
    return _attribute(event, "partitionkey") or _attribute(event, "subject")


_NONE: Final[Names] = {
    "event_id": (),
    "event_type": (),
    "sequence": (),
    "stream_id": (),
    "stream_version": (),
    "occurred_at": (),
}

_EVENTSOURCING_NOTIFICATION: Final[Names] = {
    **_NONE,  # eventsourcing: Notification.id is the global position, unique for a log
    "event_id": ("id",),
    "event_type": ("topic",),
    "sequence": ("id",),
    "stream_id": ("originator_id",),
    "stream_version": ("originator_version",),
}
_EVENTSOURCING_EVENT: Final[Names] = {
    **_NONE,  # eventsourcing: a domain event has no id; originator and version together name it
    "event_id": (_originator_and_version,),
    "stream_id": ("originator_id",),
    "stream_version": ("originator_version",),
    "occurred_at": ("timestamp",),
}
_STORED_EVENT: Final[Names] = {
    **_NONE,  # eventsource-py: the stored wrapper around an event
    "event_id": ("event_id", "event.event_id"),
    "event_type": ("event_type", "event.event_type"),
    "sequence": ("global_position",),
    "stream_id": ("aggregate_id", "event.aggregate_id", "stream_id"),
    "stream_version": ("stream_position",),
    "occurred_at": ("event.occurred_at", "stored_at"),
}


def _feed_position(event: object) -> object:
    """Read the number that a position is made of; one of another form is no sequence."""
    match getattr(getattr(event, "position", None), "key", None):
        case (int() as number,):
            return number
        case _:
            return None


_DOMAIN_EVENT: Final[Names] = {
    **_NONE,  # eventsource-py: what else an event has, as `sequence` or `stream`, is its own business
    "event_id": ("event_id",),
    "event_type": ("event_type",),
    "stream_id": ("aggregate_id",),
    "stream_version": ("aggregate_version",),
    "occurred_at": ("occurred_at",),
}
_EVENT_ENVELOPE: Final[Names] = {
    **_NONE,  # eventsource-py 0.15: what a store gives back; its stream_id is an object of aggregate and category
    "event_id": ("event.event_id",),
    "event_type": ("event.event_type",),
    "sequence": (_feed_position,),
    "stream_id": ("stream_id.aggregate_id",),
    "stream_version": ("stream_version",),
    "occurred_at": ("event.occurred_at", "stored_at"),
}
_KURRENT: Final[Names] = {
    **_NONE,  # kurrentdbclient, esdbclient: stream_position is per stream, commit_position global
    "event_id": ("id",),
    "event_type": ("type",),
    "sequence": ("commit_position",),
    "stream_id": ("stream_name",),
    "stream_version": ("stream_position",),
    "occurred_at": ("recorded_at",),
}
_MESSAGE_DB: Final[Names] = {
    **_NONE,  # Message DB: position is per stream
    "event_id": ("id",),
    "event_type": ("type",),
    "sequence": ("global_position",),
    "stream_id": ("stream_name",),
    "stream_version": ("position",),
    "occurred_at": ("time",),
}
_CLOUD_EVENT: Final[Names] = {
    **_NONE,  # CloudEvents: the sequence extension is text, and per source: no position
    "event_id": (_source_and_id,),
    "event_type": (lambda event: _attribute(event, "type"),),
    "stream_id": (_key,),
    "occurred_at": (lambda event: _attribute(event, "time"),),
}
_CONVENTIONS: Final[Names] = {
    "event_id": ("event_id", "eventId", "message_id", "id", "uid", "uuid", "metadata.event_id", "metadata.id"),
    "event_type": ("event_type", "eventType", "type", "event_name", "metadata.event_type"),
    "sequence": (
        "global_sequence",
        "sequence",
        "sequence_number",
        "global_position",
        "global_index",
        "metadata.sequence",
        "metadata.global_position",
    ),
    "stream_id": (
        "stream_id",
        "streamId",
        "stream",
        "stream_name",
        "aggregate_id",
        "aggregateId",
        "entity_id",
        "originator_id",
        "metadata.stream_id",
        "metadata.aggregate_id",
    ),
    "stream_version": ("stream_version", "aggregate_version", "originator_version", "stream_position"),
    "occurred_at": (
        "occurred_at",
        "occurredAt",
        "timestamp",
        "created_at",
        "recorded_at",
        "time",
        "metadata.occurred_at",
    ),
}


def _has(event: object, *names: str) -> bool:
    if isinstance(event, Mapping):
        return all(name in event for name in names)
    return all(hasattr(event, name) for name in names)


def shape_of(event: object) -> Names:
    """Return where an event's fields are to be looked for."""
    if _has(event, "originator_id", "originator_version", "topic", "id"):
        return _EVENTSOURCING_NOTIFICATION
    if _has(event, "originator_id", "originator_version"):
        return _EVENTSOURCING_EVENT
    if _has(event, "global_position", "stream_position", "event"):
        return _STORED_EVENT
    if _has(event, "aggregate_id", "aggregate_type", "aggregate_version", "event_version", "causation_id"):
        return _DOMAIN_EVENT
    if _has(event, "event", "stream_id", "stream_version", "position", "stored_at"):
        return _EVENT_ENVELOPE
    if _has(event, "id", "type", "stream_name", "stream_position", "commit_position"):
        return _KURRENT
    if _has(event, "id", "type", "stream_name", "position", "global_position"):
        return _MESSAGE_DB
    if all(_attribute(event, name) is not None for name in ("specversion", "id", "source", "type")):
        return _CLOUD_EVENT
    return _CONVENTIONS
