"""The audit log: who did what, written in the transaction that does it.

The reply to a COMMIT can be lost: an action that is begun again looks here first whether it has been done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, insert, select

from .._acting import request_id
from .._dialect import utc_now
from .._model import Json, Page
from .._records import AuditEntry
from .._tables import ProjectionAuditEntry
from .cursors import cursor, read_cursor, read_number

__all__ = ["details_of", "page", "untainted", "write"]

L = ProjectionAuditEntry
_COLUMNS = [column for column in L.__table__.c if column.key != "action_id"]
_write = insert(L).values(at=utc_now())
_LOOKED_BACK: Final = 1000


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
    """Write down who did what, and for which request."""
    row: dict[str, Any] = {
        "action_id": action_id,
        "actor": actor,
        "action": action,
        "projection_name": projection,
        "failure_id": failure_id,
        "note": note,
        "details": details,
        "request_id": request_id(),
    }
    connection.execute(_write, row)


def details_of(connection: Connection, projection: str, action_id: str) -> dict[str, Any] | None:
    """Return the details of an action that is on record already, None for one that is not."""
    statement = select(L.details).where(L.projection_name == projection, L.action_id == action_id)
    details: dict[str, Any] | None = connection.execute(statement).scalar_one_or_none()
    return details


def untainted(connection: Connection, projection: str, gates: Collection[str]) -> dict[str, datetime]:
    """Return when a person last ended the taint of each of these streams; one whose taint nobody ended has no entry.

    Such actions are few: they are found by what they are, and not among all that was done to the projection.
    """
    if not gates:
        return {}
    is_of_it = (L.projection_name == projection).is_(True)  # so said, no index is searched by it
    statement = select(L.at, L.details).where(is_of_it, L.action == "untaint").order_by(L.id.desc()).limit(_LOOKED_BACK)
    found: dict[str, datetime] = {}
    for at, details in connection.execute(statement):
        told: Mapping[str, object] = details or {}
        gate = told.get("stream_id")
        if isinstance(gate, str) and gate in gates:
            found.setdefault(gate, at)
    return found


def page(
    connection: Connection,
    *,
    projection: str | None,
    actor: str | None,
    action: str | None,
    failure_id: UUID | None,
    limit: int,
    after: str | None,
) -> Page[AuditEntry]:
    """Read who did what, newest first; what is not None is looked for."""
    wanted = {L.projection_name: projection, L.actor: actor, L.action: action, L.failure_id: failure_id}
    statement = select(*_COLUMNS).where(*(column == value for column, value in wanted.items() if value is not None))
    if after is not None:
        statement = statement.where(L.id < read_number(read_cursor(after, 1)[0]))
    rows = connection.execute(statement.order_by(L.id.desc()).limit(limit + 1)).all()
    items = tuple(AuditEntry(**row._mapping) for row in rows[:limit])  # pyright: ignore[reportPrivateUsage]
    return Page(items=items, after=cursor(str(items[-1].id)) if len(rows) > limit else None)
