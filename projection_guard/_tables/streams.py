"""The streams of pushed projections, and what waits: gates, applied events, parked events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Index, Integer, String, false, literal_column, text, true
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import BigIdentity
from .base import Model, Payload

__all__ = ["ParkedEvent", "ProjectionAppliedEvent", "ProjectionStream"]


class ProjectionStream(Model):
    """The gate of one (projection, stream): whoever applies an event of the stream holds this row.

    `stream_id` is the ordering key: the stream's id, the event's id where no order is kept, "" where the whole
    projection is one line. `blocked`: an unresolved failure or parked events. `drain_after`: set exactly while parked
    events wait with no unresolved failure before them.
    """

    __tablename__ = "projection_streams"
    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    stream_id: Mapped[str] = mapped_column(
        String(255),
        primary_key=True,
        doc="The ordering key: the stream's id; without order the event's id; empty where all is one line.",
    )
    epoch: Mapped[int] = mapped_column(BigInteger, doc="Counts the deliveries that took this gate.")
    blocked: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), doc="An unresolved failure, or parked events."
    )
    tainted: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), doc="Order may have been broken, or an event was skipped."
    )
    tainted_reason: Mapped[str | None] = mapped_column(String(255), doc="Why.")
    drain_after: Mapped[datetime | None] = mapped_column(
        doc="From when on its parked events can be drained; null: there are none, or a failure stands before them."
    )
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    touched_at: Mapped[datetime] = mapped_column(doc="When it was taken last.")


Index(
    "ix_projection_streams_blocked",
    ProjectionStream.projection_name,
    ProjectionStream.stream_id,
    postgresql_where=ProjectionStream.blocked,
    sqlite_where=ProjectionStream.blocked == true(),
)
Index(
    "ix_projection_streams_tainted",
    ProjectionStream.projection_name,
    ProjectionStream.stream_id,
    postgresql_where=ProjectionStream.tainted,
    sqlite_where=ProjectionStream.tainted == true(),
)
Index(
    "ix_projection_streams_drain",
    ProjectionStream.projection_name,
    ProjectionStream.drain_after,
    postgresql_where=ProjectionStream.drain_after.is_not(None),
    sqlite_where=ProjectionStream.drain_after.is_not(None),
)


class ProjectionAppliedEvent(Model):
    """An event that a pushed projection is done with: applied, skipped or mended by hand; kept for `dedupe_window`."""

    __tablename__ = "projection_applied_events"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    stream_id: Mapped[str] = mapped_column(String(255), doc="The gate's row, as in `projection_streams`.")
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    how: Mapped[str] = mapped_column(
        String(16), server_default=text("'applied'"), doc="`applied`, or by a person: `skipped`, `fixed`."
    )
    applied_at: Mapped[datetime] = mapped_column(doc="When.")
    rolled_up: Mapped[bool] = mapped_column(Boolean, server_default=false(), doc="The counters have it.")


_ROLLED_UP = ProjectionAppliedEvent.rolled_up

Index(
    "ix_projection_applied_events_new",
    ProjectionAppliedEvent.projection_name,
    postgresql_where=~_ROLLED_UP,
    sqlite_where=~_ROLLED_UP,
)
Index(
    "ix_projection_applied_events_old",
    ProjectionAppliedEvent.applied_at,
    postgresql_where=_ROLLED_UP,
    sqlite_where=ProjectionAppliedEvent.rolled_up == true(),
)
# One stream's events for people to look at; where the whole projection is one line, they cannot be told from others'.
_OF_A_STREAM = ProjectionAppliedEvent.stream_id != literal_column("''", String)
Index(
    "ix_projection_applied_events_stream",
    ProjectionAppliedEvent.projection_name,
    ProjectionAppliedEvent.stream_id,
    ProjectionAppliedEvent.applied_at,
    postgresql_where=_OF_A_STREAM,
    sqlite_where=_OF_A_STREAM,
)


class ParkedEvent(Model):
    """An event that waits its turn: behind a failure of its stream, or for the end of a pause or an outage.

    `id` is given out under the gate's lock, so that it is the order of arrival within a stream. `attempts` counts calls
    that were begun while draining, so that an event which kills its process does not do so for ever; -1 marks one that
    was tried among others, in one transaction.
    """

    __tablename__ = "projection_parked_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(
        BigIdentity, primary_key=True, autoincrement=True, doc="Counts up: the order of arrival within a stream."
    )
    projection_name: Mapped[str] = mapped_column(String(255))
    gate: Mapped[str] = mapped_column(String(255), doc="The row of `projection_streams` that it waits at.")
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    event_payload: Mapped[Any | None] = mapped_column(Payload)
    reason: Mapped[str] = mapped_column(
        String(32),
        doc="Why: `blocked` (a failure), `held` (the breaker), `leased` (a call), or the projection's state.",
    )
    attempts: Mapped[int] = mapped_column(
        Integer,
        server_default=text("0"),
        doc="Calls that were begun while draining; -1: tried among others in one transaction.",
    )
    parked_at: Mapped[datetime] = mapped_column(doc="When it was parked.")


Index("uq_projection_parked_events", ParkedEvent.projection_name, ParkedEvent.event_id, unique=True)
Index("ix_projection_parked_events_oldest", ParkedEvent.projection_name, ParkedEvent.parked_at)  # asked every second
Index("ix_projection_parked_events_gate", ParkedEvent.projection_name, ParkedEvent.gate, ParkedEvent.id)
Index(
    "ix_projection_parked_events_order",
    ParkedEvent.projection_name,
    ParkedEvent.gate,
    ParkedEvent.event_sequence,
    ParkedEvent.id,
)
