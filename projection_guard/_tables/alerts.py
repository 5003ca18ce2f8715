"""Alerts: what is going on, what is still to be told to whom, and when was looked last."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import BigIdentity, LongText
from .base import Model, Payload

__all__ = ["ProjectionAlert", "ProjectionAlertDelivery", "ProjectionAlertLook"]


class ProjectionAlert(Model):
    """A condition that holds, or that has not been over for long enough. `subject`: a projection, or a worker's id.

    `told_at` is null while it waits whether the condition lasts. `calm_since`: since when it has been lower than
    `level`, `calm_level` the highest it has been at since. `severity`, `title` and `facts` are those that were
    told last.
    """

    __tablename__ = "projection_alerts"

    subject: Mapped[str] = mapped_column(String(255), primary_key=True, doc="A projection's name, or a worker's id.")
    kind: Mapped[str] = mapped_column(String(32), primary_key=True, doc="Which condition it is: one of `AlertKind`.")
    incident: Mapped[UUID] = mapped_column(doc="The same in every message of this condition, until it has ended.")
    level: Mapped[int] = mapped_column(BigInteger, doc="How bad it is; what it counts depends on the kind.")
    severity: Mapped[str] = mapped_column(String(16), doc="`info`, `warning` or `critical`.")
    title: Mapped[str] = mapped_column(LongText, doc="One line for people.")
    facts: Mapped[Any] = mapped_column(Payload, doc="What the message says beside the title, as JSON.")
    since: Mapped[datetime] = mapped_column(doc="Since when the condition holds.")
    told_at: Mapped[datetime | None] = mapped_column(
        doc="When it was told; null while it waits whether the condition lasts."
    )
    next_reminder_at: Mapped[datetime | None] = mapped_column(doc="When it is told again; null: never.")
    calm_since: Mapped[datetime | None] = mapped_column(
        doc="Since when it has been lower than `level`; null: it is not."
    )
    calm_level: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), doc="The highest that it has been at since `calm_since`."
    )


class ProjectionAlertDelivery(Model):
    """A message that a receiver is still to be given; the row goes once that is done, or it is given up.

    `lease_owner` is a token of the one call that is being made. Messages of one `subject` and `kind` are given to a
    receiver one after the other, by `id`.
    """

    __tablename__ = "projection_alert_deliveries"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(
        BigIdentity, primary_key=True, autoincrement=True, doc="Counts up: the order of the messages of one line."
    )
    receiver: Mapped[str] = mapped_column(String(255), doc="The receiver's name.")
    subject: Mapped[str] = mapped_column(String(255), doc="As in `projection_alerts`.")
    kind: Mapped[str] = mapped_column(String(32), doc="As in `projection_alerts`.")
    message: Mapped[Any] = mapped_column(Payload, doc="The message, as JSON.")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"), doc="How often it was given in vain.")
    next_attempt_at: Mapped[datetime] = mapped_column(doc="When it is given next.")
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


Index(
    "ix_projection_alert_deliveries_line",
    ProjectionAlertDelivery.receiver,
    ProjectionAlertDelivery.subject,
    ProjectionAlertDelivery.kind,
    ProjectionAlertDelivery.id,
)


class ProjectionAlertLook(Model):
    """When somebody looked last; the row is held while he does, so that one does at a time. "": at the workers."""

    __tablename__ = "projection_alert_looks"

    subject: Mapped[str] = mapped_column(String(255), primary_key=True, doc="A projection's name; empty: the workers.")
    looked_at: Mapped[datetime] = mapped_column(doc="When it was looked at last.")
