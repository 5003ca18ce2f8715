"""Amendments: what a projection is given instead of an event of the log that it could not apply."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import LongText
from .base import Model, Payload

__all__ = ["ProjectionAmendment"]


class ProjectionAmendment(Model):
    """An event whose payload a person has amended, for one projection; both payloads are kept as the codec keeps them.

    `original_payload` is what stood in the failure `failure_id` when it was first amended, null where nothing did.
    """

    __tablename__ = "projection_amendments"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_type: Mapped[str] = mapped_column(String(255))
    event_sequence: Mapped[int | None] = mapped_column(BigInteger)
    stream_id: Mapped[str | None] = mapped_column(String(255))
    event_payload: Mapped[Any] = mapped_column(Payload)
    original_payload: Mapped[Any | None] = mapped_column(
        Payload, doc="What stood in the failure when it was first amended; null where nothing did."
    )
    amended_by: Mapped[str] = mapped_column(String(255), doc="Who amended it.")
    note: Mapped[str | None] = mapped_column(LongText)
    amended_at: Mapped[datetime] = mapped_column(doc="When it was amended last.")
    failure_id: Mapped[UUID] = mapped_column(doc="The failure in which it was amended.")
