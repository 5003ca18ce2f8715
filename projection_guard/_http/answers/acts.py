"""What is told of an act, of one upon many failures, and of all that are on record."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from ..._records import BulkStatus, Strategy
from ._answer import Answer, Page
from .projections import Health

__all__ = ["AuditEntry", "AuditPage", "BulkAction", "BulkPage", "BulkProposal", "Done", "FailureFilter"]


class Done(Answer):
    """What was done to a projection, and how it is now."""

    projection_name: str
    action: Literal["reset", "pause", "resume"]
    actor: str
    health: Health


class FailureFilter(Answer):
    """Which failures a bulk action is for."""

    projection_name: str | None
    error_type: str | None
    fingerprint: str | None
    event_type: str | None
    stream_id: str | None
    state: Literal["scheduled", "exhausted", "parked", "resolved"] | None
    failed_from: datetime | None
    failed_until: datetime | None


class BulkAction(Answer):
    """A bulk action, as far as it has come. `count`: how many failures it was for when it was proposed."""

    id: UUID
    compensation_strategy: Strategy = Field(validation_alias="strategy")
    filter: FailureFilter = Field(validation_alias="where")
    projections: list[str]
    status: BulkStatus
    count: int
    done: int
    succeeded: int
    failed: int
    actor: str
    note: str | None
    confirmed_by: str | None
    error: str | None
    created_at: datetime
    expires_at: datetime
    confirmed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    waits: str | None


class BulkProposal(BulkAction):
    """What would be done. Nothing is until it is confirmed with this token."""

    confirmation_token: str


class BulkPage(Page):
    """Bulk actions, newest first."""

    items: list[BulkAction]


class AuditEntry(Answer):
    """Who did what."""

    id: int
    at: datetime
    actor: str
    action: str
    projection_name: str
    failure_id: UUID | None
    note: str | None
    details: Any = Field(description="What there is to say of it, `before` and `after` where a state changed")
    request_id: str | None


class AuditPage(Page):
    """Actions, newest first."""

    items: list[AuditEntry]
