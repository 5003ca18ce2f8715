"""Workers that are at work: each says so itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from .base import Model, Payload

__all__ = ["ProjectionWorker"]


class ProjectionWorker(Model):
    """A worker that is running, by what it has said of itself last; it takes its row away when it stops.

    `kind`: service (a process, or thread, that does nothing else) or embedded (beside an application). `projections`
    are those it has handlers for. A row whose `seen_at` is old is of one that was killed, or stands still.
    """

    __tablename__ = "projection_workers"

    worker_id: Mapped[str] = mapped_column(String(32), primary_key=True, doc="The worker's id, new at each start.")
    kind: Mapped[str] = mapped_column(String(16), doc="`service` or `embedded`.")
    host: Mapped[str] = mapped_column(String(255), doc="The machine's name.")
    process_id: Mapped[int] = mapped_column(Integer, doc="Its process there.")
    library_version: Mapped[str] = mapped_column(String(64), doc="The version of projection_guard that it runs.")
    projections: Mapped[Any] = mapped_column(Payload, doc="Those that it has handlers for, as JSON.")
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(doc="Its last sign of life; one comes every 10 seconds.")
    stopping_at: Mapped[datetime | None] = mapped_column(doc="Since when it takes nothing up any more.")
