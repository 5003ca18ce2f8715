"""The audit log: who did what, written in the transaction that does it.

The reply to a COMMIT can be lost: an action that is begun again looks here first whether it has been done.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from .._dialect import utc_now
from .._model import Json
from .._tables import ProjectionAuditEntry

__all__ = ["details_of", "write"]

L = ProjectionAuditEntry
_write = insert(L).values(at=utc_now())


def write(
    connection: Connection,
    *,
    action_id: str,
    actor: str,
    action: str,
    projection: str,
    failure_id: UUID | None = None,
    note: str | None = None,
    details: dict[str, Json],
) -> None:
    """Write down who did what."""
    row: dict[str, Any] = {
        "action_id": action_id,
        "actor": actor,
        "action": action,
        "projection_name": projection,
        "failure_id": failure_id,
        "note": note,
        "details": details,
    }
    connection.execute(_write, row)


def details_of(connection: Connection, projection: str, action_id: str) -> dict[str, Any] | None:
    """Return the details of an action that is on record already, None for one that is not."""
    statement = select(L.details).where(L.projection_name == projection, L.action_id == action_id)
    details: dict[str, Any] | None = connection.execute(statement).scalar_one_or_none()
    return details
