"""The parked events: they wait in the order of their arrival, for a failure before them or the end of a pause.

Before the handler is called for one, its attempt is counted; before it is called for many in one transaction, they are
marked. Who finds the mark of a process that has died, or of a stretch that failed, takes them one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, delete, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import Changing, absent_last, utc_now
from .._model import EventRecord, Json, Order, Page
from .._records import Parked
from .._tables import ParkedEvent, ProjectionAmendment, ProjectionState
from .claims import Ticket
from .cursors import cursor, read_cursor, read_number

__all__ = [
    "InLine",
    "clear",
    "clear_beyond",
    "count_attempt",
    "first",
    "give_back",
    "mark",
    "page",
    "park",
    "shown_attempts",
    "unpark",
    "unpark_all",
]

P, M = ParkedEvent, ProjectionAmendment


@dataclass(frozen=True, slots=True, kw_only=True)
class InLine:
    """A parked event, and what it is `amended` to, if it is. `attempts` were begun for it and came to no end.

    `is_fresh`: nothing was tried with it yet, neither by itself nor among others.
    """

    id: int
    event: EventRecord
    payload: Json
    amended: Json
    attempts: int
    is_fresh: bool

    def precedes(self, failure: int | None, *, by_sequence: bool) -> bool:
        """Return whether it comes before the first failure of its stream, by the log's order; or there is none."""
        if failure is None:
            return True
        return by_sequence and self.event.sequence is not None and self.event.sequence < failure


_park = insert(P).values(parked_at=utc_now())
_amended = (
    select(M.event_payload)
    .where(M.projection_name == P.projection_name, M.event_id == P.event_id)
    .scalar_subquery()
    .label("amended")
)
_line = (
    select(*P.__table__.c, _amended)
    .where(P.projection_name == bindparam("projection"), P.gate == bindparam("gate"))
    .limit(bindparam("limit"))
)
_by_arrival = _line.order_by(P.id)
_by_sequence = _line.order_by(absent_last(P.event_sequence), P.id)  # the log has not come to those without one yet
_unpark = delete(P).where(P.id == bindparam("parked"))
_unpark_all = delete(P).where(P.id.in_(bindparam("parked_ids", expanding=True)))
_MARKED: Final = -1
"""In place of a number of attempts: among others in one transaction, an attempt that counts as nobody's."""
_count = update(P).where(P.id == bindparam("parked")).values(attempts=case((P.attempts < 0, 1), else_=P.attempts + 1))
_mark = (
    update(P)
    .where(P.id.in_(bindparam("parked_ids", expanding=True)), P.attempts <= 0)
    .values(attempts=bindparam("mark"))
)
_give_back = update(P).where(P.id == bindparam("parked"), P.attempts > 0).values(attempts=P.attempts - 1)
_reset_began = (
    select(ProjectionState.changed_at)
    .where(ProjectionState.projection_name == bindparam("projection"))
    .scalar_subquery()
)
_clear = delete(P).where(
    P.projection_name == bindparam("projection"), or_(P.reason != "resetting", P.parked_at < _reset_began)
)


def park(connection: Connection, tickets: Sequence[Ticket], payload: Json, reason: str) -> None:
    """Put events at the end of their streams' lines, in this order. Hold the gates, and settle them afterwards."""
    connection.execute(
        _park,
        [
            {
                "projection_name": ticket.projection,
                "gate": ticket.gate,
                "event_id": ticket.event.event_id,
                "event_type": ticket.event.event_type,
                "event_sequence": ticket.event.sequence,
                "stream_id": ticket.event.stream_id,
                "event_payload": payload,
                "reason": reason,
            }
            for ticket in tickets
        ],
    )


def first(connection: Connection, projection: str, gate: str, *, by_sequence: bool, limit: int = 1) -> list[InLine]:
    """Read the head of a stream's line: in the order of arrival, or in the log's where the projection is followed."""
    rows: Sequence[Any] = connection.execute(
        _by_sequence if by_sequence else _by_arrival, {"projection": projection, "gate": gate, "limit": limit}
    ).all()
    return [
        InLine(
            id=row.id,
            event=EventRecord(
                event_id=row.event_id,
                event_type=row.event_type,
                sequence=row.event_sequence,
                stream_id=row.stream_id,
            ),
            payload=row.event_payload,
            amended=row.amended,
            attempts=shown_attempts(row.attempts),
            is_fresh=row.attempts == 0,
        )
        for row in rows
    ]


def shown_attempts(attempts: int) -> int:
    """Return how many attempts the column tells of."""
    return max(attempts, 0)


def mark(connection: Connection, parked_ids: Sequence[int], *, is_fresh: bool = False) -> None:
    """Mark events that are to be tried among others, or take that back (`is_fresh`). Attempts that count stay."""
    if parked_ids:
        connection.execute(_mark, {"parked_ids": list(parked_ids), "mark": 0 if is_fresh else _MARKED})


def count_attempt(connection: Connection, parked_id: int) -> None:
    """Count a call that is about to begin, so that an event which kills its process does not do so for ever."""
    connection.execute(_count, {"parked": parked_id})


def give_back(connection: Connection, parked_id: int) -> None:
    """Take the count back: the call did not begin, or was broken off by whoever asked for it."""
    connection.execute(_give_back, {"parked": parked_id})


def unpark(connection: Connection, parked_id: int) -> None:
    """Take an event out of the line."""
    connection.execute(_unpark, {"parked": parked_id})


def unpark_all(connection: Connection, parked_ids: Sequence[int]) -> None:
    """Take several events out of the line."""
    connection.execute(_unpark_all, {"parked_ids": list(parked_ids)})


_clear_beyond = Changing(
    delete(P),
    (
        P.projection_name == bindparam("projection"),
        or_(P.event_sequence > bindparam("beyond"), bindparam("beyond") == 0),
    ),
    P.event_id,
    P.event_type,
    P.event_sequence,
    P.stream_id,
)


def clear_beyond(connection: Connection, projection: str, sequence: int) -> list[EventRecord]:
    """Drop what is parked of events after a sequence, all of it after 0; return which events that were."""
    rows = _clear_beyond.run(connection, {"projection": projection, "beyond": sequence})
    return [
        EventRecord(
            event_id=row.event_id, event_type=row.event_type, sequence=row.event_sequence, stream_id=row.stream_id
        )
        for row in rows
    ]


def clear(connection: Connection, projection: str) -> int:
    """Drop what was parked before the reset under way began; return how many that were."""
    return connection.execute(_clear, {"projection": projection}).rowcount


def page(
    connection: Connection,
    projection: str,
    *,
    stream_id: str | None,
    order: str,
    by_sequence: bool,
    limit: int,
    after: str | None,
) -> Page[Parked]:
    """Read parked events stream by stream, those of a stream in the order in which they will be drained."""
    statement = select(*P.__table__.c).where(P.projection_name == projection)
    if stream_id is not None:
        statement = statement.where(P.stream_id == stream_id)
        if order == Order.STREAM.value:
            statement = statement.where(P.gate == stream_id)
    if after is not None:
        statement = statement.where(*_beyond(after, by_sequence=by_sequence))
    in_line = (absent_last(P.event_sequence), P.id) if by_sequence else (P.id,)
    rows = connection.execute(statement.order_by(P.gate, *in_line).limit(limit + 1)).all()
    items = tuple(_parked(row) for row in rows[:limit])
    return Page(items=items, after=_cursor_of(rows[limit - 1]) if len(rows) > limit else None)


def _cursor_of(row: Any) -> str:
    return cursor(row.gate, "" if row.event_sequence is None else str(row.event_sequence), str(row.id))


def _beyond(after: str, *, by_sequence: bool) -> tuple[ColumnElement[bool], ...]:
    gate, sequence, last = read_cursor(after, 3)
    later = P.id > read_number(last)
    if by_sequence and sequence:
        at = read_number(sequence)
        beyond = or_(P.event_sequence > at, P.event_sequence.is_(None), and_(P.event_sequence == at, later))
    elif by_sequence:
        beyond = and_(P.event_sequence.is_(None), later)
    else:
        beyond = later
    return P.gate >= gate, or_(P.gate > gate, beyond)


def _parked(row: Any) -> Parked:
    return Parked(
        projection_name=row.projection_name,
        stream_id=row.stream_id,
        event_id=row.event_id,
        event_type=row.event_type,
        event_sequence=row.event_sequence,
        event_payload=row.event_payload,
        reason=row.reason,
        attempts=shown_attempts(row.attempts),
        parked_at=row.parked_at,
    )
