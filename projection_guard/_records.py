"""What operators look at beside failures: parked events, the audit log, actions on many failures at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ._model import Json

__all__ = ["AuditEntry", "Parked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """An event that waits its turn. `attempts` counts calls of the handler that were begun and came to no end."""

    projection_name: str
    stream_id: str | None
    event_id: str
    event_type: str
    event_sequence: int | None
    event_payload: Json
    reason: str
    attempts: int
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what, and when.

    Where a state was changed, `details` holds it as it was `before` and is `after`. `request_id` is what `acting_for`
    was given. `projection_name` is "*" for what was decided over several projections at once.
    """

    id: int
    at: datetime
    actor: str
    action: str
    projection_name: str
    failure_id: UUID | None
    note: str | None
    details: Json
    request_id: str | None
