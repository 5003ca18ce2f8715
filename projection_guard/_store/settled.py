"""The rows that say what a projection is done with: applied, skipped, or mended by hand. Hold the stream's gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, String, bindparam, literal_column, select, true, update

from .._dialect import PerDialect, utc_now
from .._model import EventRecord
from .._tables import ProjectionAppliedEvent
from .claims import Ticket

__all__ = ["among", "fixed_behind", "record", "record_all", "redone", "redone_all"]

A = ProjectionAppliedEvent

_record = PerDialect(
    lambda insert: (
        insert(A)
        .values(
            projection_name=bindparam("projection"),
            event_id=bindparam("event"),
            stream_id=bindparam("gate"),
            event_type=bindparam("type"),
            event_sequence=bindparam("sequence"),
            how=bindparam("done"),
            applied_at=utc_now(),
        )
        .on_conflict_do_nothing(index_elements=["projection_name", "event_id"])
    )
)


def record(connection: Connection, ticket: Ticket, how: str = "applied") -> None:
    """Record that a projection is done with an event: `applied`, `skipped` or `fixed`."""
    connection.execute(_record.of(connection), _row(ticket, how))


def record_all(connection: Connection, tickets: Sequence[Ticket]) -> None:
    """Record that events were applied."""
    connection.execute(_record.of(connection), [_row(ticket, "applied") for ticket in tickets])


def _row(ticket: Ticket, how: str) -> dict[str, object]:
    event: EventRecord = ticket.event
    return {
        "projection": ticket.projection,
        "event": event.event_id,
        "gate": ticket.gate,
        "type": event.event_type,
        "sequence": event.sequence,
        "done": how,
    }


_among = select(A.event_id).where(
    A.projection_name == bindparam("projection"), A.event_id.in_(bindparam("events", expanding=True))
)


def among(connection: Connection, projection: str, events: Sequence[str]) -> frozenset[str]:
    """Return which of these events a projection is done with. Only after `gates.lock`, in a later statement."""
    parameters = {"projection": projection, "events": list(events)}
    return frozenset(connection.execute(_among, parameters).scalars())


_redone_all = (
    update(A)
    .where(A.projection_name == bindparam("projection"), A.how != "applied")
    .values(how="applied", rolled_up=true())
)
_redone = _redone_all.where(A.event_id.in_(bindparam("events", expanding=True)))


def redone(connection: Connection, projection: str, events: Sequence[str]) -> None:
    """Record that events which were skipped or mended by hand, if they were, are applied now."""
    if events:
        connection.execute(_redone, {"projection": projection, "events": list(events)})


def redone_all(connection: Connection, projection: str) -> None:
    """Record that all events which were skipped or mended by hand are applied now: another read model has them."""
    connection.execute(_redone_all, {"projection": projection})


_fixed_behind: Final = (
    update(A)
    .where(A.projection_name == bindparam("projection"), A.stream_id == bindparam("gate"), A.how == "skipped")
    .values(how="fixed")
)
_fixed_behind_a_stream: Final = _fixed_behind.where(A.stream_id != literal_column("''", String))  # as the index says it


def fixed_behind(connection: Connection, projection: str, gate: str) -> int:
    """Record that what was skipped behind a gate has been mended by hand since; return how many events that are."""
    statement = _fixed_behind_a_stream if gate else _fixed_behind
    return connection.execute(statement, {"projection": projection, "gate": gate}).rowcount
