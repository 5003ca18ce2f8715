"""What is told of a failure, of those that are alike, and of what waits behind one."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from ..._model import OutcomeStatus
from ._answer import Answer, Page

__all__ = [
    "Attempt",
    "Editable",
    "Failure",
    "FailureDetail",
    "FailureGroup",
    "FailurePage",
    "GroupPage",
    "ParkedEvent",
    "ParkedPage",
    "Resolved",
    "Unamended",
]


class Failure(Answer):
    """An event that a projection could not apply."""

    id: UUID
    projection_name: str
    state: Literal["scheduled", "exhausted", "resolved"]
    event_id: str
    event_type: str
    event_sequence: int | None
    stream_id: str | None
    error_type: str
    error_message: str
    fingerprint: str
    retry_count: int
    max_retries: int
    failed_at: datetime
    last_retry_at: datetime | None
    next_retry_at: datetime | None
    resolved_at: datetime | None
    resolution_method: str | None
    resolved_by: str | None
    created_at: datetime
    updated_at: datetime


class Attempt(Answer):
    """One call of the handler that failed."""

    number: int
    attempted_at: datetime
    error_type: str
    error_message: str
    duration_ms: float | None


class FailureDetail(Failure):
    """A failure with its history. The traceback is for operators, the event for whom the application shows it to."""

    attempts: list[Attempt]
    error_traceback: str | None = Field(description="null for viewers")
    event_payload: Any = Field(description="null where `event_payload_hidden`; the original, also where `amended`")
    event_payload_hidden: bool
    amended: bool = Field(description="The projection is given an amended event instead")
    amended_by: str | None
    amended_at: datetime | None


class FailurePage(Page):
    """Failures, newest first."""

    items: list[Failure]


class FailureGroup(Answer):
    """Failures of one projection that have the same cause, as far as their errors tell."""

    projection_name: str
    fingerprint: str
    error_type: str
    error_message: str
    count: int
    exhausted: int
    first_failed_at: datetime
    last_failed_at: datetime
    sample_failure_id: UUID


class GroupPage(Page):
    """Groups, biggest first."""

    items: list[FailureGroup]


class ParkedEvent(Answer):
    """An event that waits: behind a failure of its stream, or for the end of a pause."""

    projection_name: str
    stream_id: str | None
    event_id: str
    event_type: str
    event_sequence: int | None
    event_payload: Any = Field(description="null where `event_payload_hidden`")
    event_payload_hidden: bool
    reason: str
    attempts: int
    parked_at: datetime


class ParkedPage(Page):
    """Parked events, in the order in which they will be applied."""

    items: list[ParkedEvent]


class Resolved(Answer):
    """What came of it: `applied`; `failed` where a retry failed again; `duplicate` where nothing was left to do."""

    failure_id: UUID
    projection_name: str
    event_id: str
    outcome: OutcomeStatus
    attempts: int
    failure: Failure


class Editable(Answer):
    """An event that failed, as an operator edits it: decrypted, and as it was amended before, if it was."""

    failure_id: UUID
    event_payload: Any = Field(description="null where nothing of it is on record, and the log cannot say it as JSON")


class Unamended(Answer):
    """What came of it: `withdrawn`, or there was no amendment."""

    failure_id: UUID
    projection_name: str
    event_id: str
    withdrawn: bool
