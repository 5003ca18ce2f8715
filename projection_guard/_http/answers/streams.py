"""What is told of one stream, and of all that are blocked or tainted."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from ..._model import ResolutionMethod
from ..._records import StreamEventState, StreamListing
from ._answer import Answer, Page

__all__ = ["Stream", "StreamEvent", "StreamEventPage", "StreamHistory", "StreamPage", "Untainted"]


class Stream(Answer):
    """A stream that does not simply flow."""

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    parked_events: int
    failure_ids: list[UUID]


class StreamPage(Page):
    """Streams, by their ids."""

    items: list[Stream]


class StreamEvent(Answer):
    """An event of a stream, and what has become of it."""

    event_id: str
    event_type: str
    event_sequence: int | None
    state: StreamEventState = Field(
        description="pending: the projection has not come to it; ignored: it takes no such events; missed: it was "
        "committed into a hole of the log that was given up"
    )
    at: datetime | None = Field(description="null where only a cursor tells that it was applied")
    failure_id: UUID | None = Field(description="Its newest failure, also one that has ended")
    how: ResolutionMethod | None = Field(description="How that failure has ended")
    attempts: int


class StreamEventPage(Page):
    """Events of a stream, newest first."""

    items: list[StreamEvent]


class StreamHistory(Answer):
    """One stream: how it stands, and its events."""

    projection_name: str
    stream_id: str
    blocked: bool
    tainted: bool
    tainted_reason: str | None
    leased: bool = Field(description="A call of the handler is under way")
    parked_events: int
    failure_ids: list[UUID]
    applied_events: StreamListing = Field(
        description="Which applied events are listed. all: as the log has them, and pending ones too; recent: those of "
        "the last `dedupe_window`; unlisted: only those that had failed"
    )
    log_is_read: bool
    page: StreamEventPage


class Untainted(Answer):
    """What came of it: `untainted`, or the stream was not tainted."""

    projection_name: str
    stream_id: str
    untainted: bool
