"""The application's events."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

__all__ = ["Archived", "DomainEvent", "Renamed", "Uploaded"]


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """What happened to a document, its aggregate."""

    aggregate_id: UUID
    title: str = ""
    event_id: UUID = field(default_factory=uuid4)

    @property
    def event_type(self) -> str:
        """Name it."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class Uploaded(DomainEvent):
    """A document came in."""


@dataclass(frozen=True, kw_only=True)
class Renamed(DomainEvent):
    """It has another title now."""


@dataclass(frozen=True, kw_only=True)
class Archived(DomainEvent):
    """It is not worked on any more."""
