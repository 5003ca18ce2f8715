"""The amendments: what a projection is given instead of an event that it could not apply.

Whoever writes here holds the projection's state, so that there is one at a time. Whoever gives an event to a handler
again looks here first, in a statement after the one that took the event's lease or lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from .._dialect import utc_now
from .._model import Json, Page
from .._records import Amendment
from .._tables import ProjectionAmendment
from .claims import Ticket
from .cursors import cursor, read_cursor

__all__ = ["event_ids", "one", "page", "payload", "payloads", "put", "remove"]

M = ProjectionAmendment
_MOST_AT_ONCE = 500

_is_it = (M.projection_name == bindparam("projection"), M.event_id == bindparam("event"))
_payload = select(M.event_payload).where(*_is_it)
_one = select(*M.__table__.c).where(*_is_it)
_event_ids = select(M.event_id).where(M.projection_name == bindparam("projection"))
_again = (
    update(M)
    .where(*_is_it)
    .values(
        event_payload=bindparam("payload"),
        amended_by=bindparam("actor"),
        note=bindparam("why"),
        failure_id=bindparam("failure"),
        amended_at=utc_now(),
    )
)
_first = insert(M).values(amended_at=utc_now())
_remove = delete(M).where(*_is_it)


def put(
    connection: Connection,
    ticket: Ticket,
    *,
    payload: Json,
    original: Json,
    actor: str,
    note: str | None,
    failure_id: UUID,
) -> None:
    """Write what is to be given from now on. What stood there first stays the original, however often it is amended."""
    event = ticket.event
    key = {"projection": ticket.projection, "event": event.event_id}
    new = {"payload": payload, "actor": actor, "why": note, "failure": failure_id}
    if connection.execute(_again, {**key, **new}).rowcount:
        return
    connection.execute(
        _first,
        {
            "projection_name": ticket.projection,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "event_sequence": event.sequence,
            "stream_id": event.stream_id,
            "event_payload": payload,
            "original_payload": original,
            "amended_by": actor,
            "note": note,
            "failure_id": failure_id,
        },
    )


def remove(connection: Connection, projection: str, event_id: str) -> bool:
    """Withdraw an amendment; False where there is none."""
    return connection.execute(_remove, {"projection": projection, "event": event_id}).rowcount == 1


def payload(connection: Connection, projection: str, event_id: str) -> Json:
    """Return what is given instead of an event; None where that is given as it is."""
    return cast(
        "Json", connection.execute(_payload, {"projection": projection, "event": event_id}).scalar_one_or_none()
    )


def payloads(connection: Connection, projection: str, events: Sequence[str]) -> dict[str, Json]:
    """Return what is given instead of those of these events that are amended, by their ids."""
    found: dict[str, Json] = {}
    for begin in range(0, len(events), _MOST_AT_ONCE):
        wanted = events[begin : begin + _MOST_AT_ONCE]
        rows = connection.execute(
            select(M.event_id, M.event_payload).where(M.projection_name == projection, M.event_id.in_(wanted))
        )
        found |= {row.event_id: row.event_payload for row in rows}
    return found


def event_ids(connection: Connection, projection: str) -> frozenset[str]:
    """Name the events of a projection that are amended."""
    return frozenset(connection.execute(_event_ids, {"projection": projection}).scalars())


def one(connection: Connection, projection: str, event_id: str) -> Amendment | None:
    """Read one."""
    row = connection.execute(_one, {"projection": projection, "event": event_id}).one_or_none()
    return None if row is None else _amendment(row)


def page(connection: Connection, projection: str, *, limit: int, after: str | None) -> Page[Amendment]:
    """Read those of a projection, by their events' ids."""
    statement = select(*M.__table__.c).where(M.projection_name == projection)
    if after is not None:
        statement = statement.where(M.event_id > read_cursor(after, 1)[0])
    rows = connection.execute(statement.order_by(M.event_id).limit(limit + 1)).all()
    items = tuple(_amendment(row) for row in rows[:limit])
    return Page(items=items, after=cursor(items[-1].event_id) if len(rows) > limit else None)


def _amendment(row: Any) -> Amendment:
    return Amendment(**row._mapping)
