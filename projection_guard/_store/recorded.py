"""Which events of a stream are on record, newest first: parked, then failed, then those that are done with.

For where the log is not read. An event moves down this list, hardly ever up: who pages through it misses none, and may
see one twice. Each part is found in the order of an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Select, String, exists, func, literal, literal_column, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql.elements import ColumnElement

from .._model import EventRecord, Order
from .._tables import ParkedEvent, ProjectionAppliedEvent, ProjectionFailure
from .cursors import read_identity, read_moment, read_number, read_whole
from .histories import has_ended, is_parked

__all__ = ["PARTS", "OfStream", "OnRecord", "events"]

P, F, A = ParkedEvent, ProjectionFailure, ProjectionAppliedEvent
PARTS: Final = ("parked", "failed", "done")
Place = tuple[str, str, str, str]
"""The part, and what an event stands at in it."""
_NO_SEQUENCE: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfStream:
    """Which stream, in which projection. `since`: what ended before is over."""

    projection: str
    stream_id: str
    order: Order
    since: datetime | None

    @property
    def has_applied_events(self) -> bool:
        """Whether the applied events of this stream can be told from others': their rows name the gate."""
        return self.order is Order.STREAM and bool(self.stream_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRecord:
    """An event on record. `place`: whoever gives it gets what follows."""

    event: EventRecord
    place: Place


def events(connection: Connection, of: OfStream, after: Place | None, most: int) -> list[OnRecord]:
    """Read the next events of a stream, each once. Raises `InvalidArgument` for a place that is none."""
    first = 0 if after is None else PARTS.index(after[0])
    found: dict[str, OnRecord] = {}
    for part, read in list(zip(PARTS, (_parked, _failed, _done), strict=True))[first:]:
        if len(found) >= most:
            break
        for each in read(connection, of, after if after is not None and after[0] == part else None, most):
            found.setdefault(each.event.event_id, each)
    return list(found.values())[:most]


def _parked(connection: Connection, of: OfStream, after: Place | None, most: int) -> list[OnRecord]:
    statement = select(P.event_id, P.event_type, P.event_sequence, P.id)
    statement = statement.where(*is_parked(of.projection, of.stream_id, of.order)).order_by(P.id.desc()).limit(most)
    if after is not None:
        statement = statement.where(P.id < read_number(after[1]))
    return [_on_record(of, row, "parked", str(row.id)) for row in connection.execute(statement)]


def _failed(connection: Connection, of: OfStream, after: Place | None, most: int) -> list[OnRecord]:
    statement = (
        select(F.event_id, F.event_type, F.event_sequence, F.failed_at, F.id)
        .where(F.projection_name == of.projection, F.stream_id == of.stream_id, F.resolved_at.is_(None))
        .order_by(F.failed_at.desc(), F.id.desc())
        .limit(most)
    )
    if after is not None:
        place = (literal(read_moment(after[1]), F.failed_at.type), literal(read_identity(after[2]), F.id.type))
        statement = statement.where(tuple_(F.failed_at, F.id) < tuple_(*place))
    return [
        _on_record(of, row, "failed", row.failed_at.isoformat(), str(row.id)) for row in connection.execute(statement)
    ]


# -- done with: applied or skipped, by the row that says so, or by the failure that ended where that row is gone


def _done(connection: Connection, of: OfStream, after: Place | None, most: int) -> list[OnRecord]:
    rows = _rows(connection, _in_order(_ended(of), F.resolved_at, F.event_sequence, F.event_id, after, most))
    if of.has_applied_events:
        rows += _rows(connection, _in_order(_applied(of), A.applied_at, A.event_sequence, A.event_id, after, most))
    rows.sort(key=attrgetter("at", "number", "event_id"), reverse=True)
    return [_on_record(of, row, "done", row.at.isoformat(), str(row.number), row.event_id) for row in rows[:most]]


def _rows(connection: Connection, statement: Select[Any]) -> list[Any]:
    return list(connection.execute(statement))


def _in_order(
    statement: Select[Any],
    moment: InstrumentedAttribute[Any],
    sequence: InstrumentedAttribute[int | None],
    event_id: InstrumentedAttribute[str],
    after: Place | None,
    most: int,
) -> Select[Any]:
    number = func.coalesce(sequence, _NO_SEQUENCE)
    statement = statement.add_columns(event_id, sequence, moment.label("at"), number.label("number"))
    if after is not None:
        at = literal(read_moment(after[1]), moment.type)
        place = (at, literal(read_whole(after[2]), BigInteger), literal(after[3], String))
        statement = statement.where(moment <= at, tuple_(moment, number, event_id) < tuple_(*place))
    return statement.order_by(moment.desc(), number.desc(), event_id.desc()).limit(most)


def _applied(of: OfStream) -> Select[Any]:
    is_a_stream = A.stream_id != literal_column("''", String)  # as the index says it
    return select(A.event_type).where(A.projection_name == of.projection, A.stream_id == of.stream_id, is_a_stream)


def _ended(of: OfStream) -> Select[Any]:
    """The newest failure of each event of which nothing else is on record."""
    other = aliased(F)
    same = (other.projection_name == of.projection, other.event_id == F.event_id)
    is_newer = (other.failed_at > F.failed_at).is_(True)  # so said, no index is searched by it: there is a better one
    unlisted: list[ColumnElement[bool]] = [
        ~_exists(other.id, *same, other.resolved_at.is_(None)),
        ~_exists(other.id, *same, other.resolved_at.is_not(None), is_newer),
        ~_exists(P.id, P.projection_name == of.projection, P.event_id == F.event_id),
    ]
    if of.has_applied_events:
        unlisted.append(~_exists(A.event_id, A.projection_name == of.projection, A.event_id == F.event_id))
    ended = (F.projection_name == of.projection, F.stream_id == of.stream_id, *has_ended(of.since))
    return select(F.event_type).where(*ended, *unlisted)


def _exists(column: InstrumentedAttribute[Any], *where: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(column).where(*where).correlate(F))


def _on_record(of: OfStream, row: Any, part: str, *at: str) -> OnRecord:
    first, second, third = (*at, "", "")[:3]
    event = EventRecord(
        event_id=row.event_id, event_type=row.event_type, sequence=row.event_sequence, stream_id=of.stream_id
    )
    return OnRecord(event=event, place=(part, first, second, third))
