"""`eventsource-py`, found once, and what of it is used here, by its own names.

It is imported by name at run time: it needs Python 3.13, and this package is checked and runs on 3.11 too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any, Final, Protocol
from uuid import UUID

__all__ = ["LIBRARY", "DomainEvent", "Envelope", "Feed", "Position", "Registry", "StreamName", "subscription_config"]


class DomainEvent(Protocol):
    """An event of theirs: a Pydantic model."""

    @property
    def event_id(self) -> UUID:
        """Its own id."""
        ...

    @property
    def event_type(self) -> str:
        """Its type's name, by which the registry knows its class."""
        ...

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        ...


class StreamName(Protocol):
    """The name of a stream: an aggregate's id and its category."""

    @property
    def aggregate_id(self) -> UUID:
        """The aggregate's id."""
        ...


class Position(Protocol):
    """A place in a store's feed."""

    @property
    def key(self) -> tuple[int | str, ...]:
        """What it is made of: one number in the stores that the library brings."""
        ...


class Envelope(Protocol):
    """An event as a store gives it back."""

    @property
    def event(self) -> DomainEvent:
        """The event."""
        ...

    @property
    def stream_id(self) -> StreamName:
        """The stream it was appended to."""
        ...

    @property
    def stream_version(self) -> int:
        """Its number in that stream, from 1 on."""
        ...

    @property
    def position(self) -> Position | None:
        """Its place in the feed."""
        ...


class Feed(Protocol):
    """A store that is read as one feed."""

    @property
    def store_id(self) -> str:
        """What its positions are marked with."""
        ...

    def read_all(self, from_position: object = None, options: object = None) -> AsyncIterator[Envelope]:
        """Read what stands behind a position."""
        ...

    async def current_position(self) -> Position | None:
        """Return the place of the last event."""
        ...


class Registry(Protocol):
    """Knows the classes of events by their types' names."""

    def get(self, event_type: str) -> Any:
        """Return the class. Raises `EventTypeNotFoundError`."""
        ...


def _library() -> Any:
    """Import it. Another distribution, `eventsource`, has a module of the same name."""
    try:
        found: Any = import_module("eventsource")
    except ImportError as error:
        raise ImportError(
            f"projection_guard.eventsource needs {error.name} (eventsource-py, on Python 3.13 or newer): "
            "pip install 'projection-guard[eventsource]'"
        ) from error
    needed: Sequence[str] = ("DomainEvent", "FeedReadOptions", "Position", "StreamId")
    if not all(hasattr(found, name) for name in needed):
        raise ImportError(
            "projection_guard.eventsource needs eventsource-py 0.15, and the module 'eventsource' here is something "
            "else: pip install 'projection-guard[eventsource]'"
        )
    return found


LIBRARY: Final[Any] = _library()
"""The module `eventsource`."""


def subscription_config(**settings: object) -> Any:
    """Make a `SubscriptionConfig`, which the library imports only where it is asked for."""
    return import_module("eventsource.application.subscriptions").SubscriptionConfig(**settings)
