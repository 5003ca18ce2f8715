"""What a copy of a read model has to leave out to be like the live one: what failed there, waits there, was skipped.

A verification reads this of the live projection and keeps it with the job, as events that are set aside. It writes
nothing of the live projection's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from .._model import Json
from .._tables import ParkedEvent, ProjectionAppliedEvent, ProjectionFailure, ProjectionStream, SetAsideEvent
from . import audits
from .claims import Ticket

__all__ = [
    "BY_HAND",
    "SKIPPED",
    "LeftOut",
    "Omitted",
    "Summary",
    "first_healed",
    "is_by_hand",
    "of_live",
    "pass_by",
    "summary",
    "take_back",
    "waiting_among",
    "waiting_behind",
]

S, P, A, F, G = SetAsideEvent, ParkedEvent, ProjectionAppliedEvent, ProjectionFailure, ProjectionStream
_JOB: BindParameter[UUID] = bindparam("job", type_=S.replay_id.type)
_NAME: BindParameter[str] = bindparam("projection")
_EVENTS: BindParameter[Sequence[str]] = bindparam("events", expanding=True)
_GATES: BindParameter[Sequence[str]] = bindparam("gates", expanding=True)
_WAITS = and_(S.error_type.is_(None), S.verdict.is_(None))
_NAMED: Final = 10
BY_HAND: Final = "by hand"
SKIPPED: Final = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Of some events, by their ids: which are failed or parked in the live projection, which a person has skipped."""

    waits: frozenset[str]
    skipped: frozenset[str]


_open = [
    select(F.event_id).where(F.projection_name == _NAME, F.resolved_at.is_(None), F.event_id.in_(_EVENTS)),
    select(P.event_id).where(P.projection_name == _NAME, P.event_id.in_(_EVENTS)),
]
_done = select(A.event_id, A.how).where(A.projection_name == _NAME, A.event_id.in_(_EVENTS))
_tainted = select(G.stream_id).where(G.projection_name == _NAME, G.tainted, G.stream_id.in_(_GATES))
_resolved = select(F.event_id).where(
    F.projection_name == _NAME, F.resolution_method == bindparam("method"), F.event_id.in_(_EVENTS)
)
_skipped_at = select(func.max(F.resolved_at)).where(
    F.projection_name == _NAME, F.resolution_method == "manual_skip", F.event_id.in_(_EVENTS)
)


def of_live(connection: Connection, projection: str, tickets: Sequence[Ticket]) -> LeftOut:
    """Say which of these events, which the live projection is past, it has not applied."""
    if not tickets:
        return LeftOut(waits=frozenset(), skipped=frozenset())
    parameters = {"projection": projection, "events": [ticket.event.event_id for ticket in tickets]}
    waits = frozenset(event for each in _open for event in connection.execute(each, parameters).scalars())
    done = {row.event_id: row.how for row in connection.execute(_done, parameters)}
    skipped = {event for event, how in done.items() if how == SKIPPED}
    return LeftOut(waits=waits, skipped=frozenset(skipped | _skipped_long_ago(connection, projection, tickets, done)))


def _skipped_long_ago(
    connection: Connection, projection: str, tickets: Sequence[Ticket], done: Collection[str]
) -> frozenset[str]:
    """What was skipped is forgotten after the deduplication window; the failure stays, and its stream's taint."""
    gates = sorted({ticket.gate for ticket in tickets})
    tainted = set(connection.execute(_tainted, {"projection": projection, "gates": gates}).scalars())
    events = [
        ticket.event.event_id for ticket in tickets if ticket.gate in tainted and ticket.event.event_id not in done
    ]
    if not events:
        return frozenset()
    parameters = {"projection": projection, "method": "manual_skip", "events": events}
    return frozenset(connection.execute(_resolved, parameters).scalars())


def is_by_hand(connection: Connection, projection: str, ticket: Ticket) -> bool:
    """Return whether a person has made this event's effect by hand: at once, or after a skip."""
    parameters = {"projection": projection, "method": "manual_fix", "events": [ticket.event.event_id]}
    done = {row.how for row in connection.execute(_done, parameters)}
    if done:
        return "fixed" in done
    if connection.execute(_resolved, parameters).first() is not None:
        return True
    skipped_at = connection.execute(_skipped_at, parameters).scalar_one()
    untainted_at = audits.untainted(connection, projection, [ticket.gate]).get(ticket.gate)
    return skipped_at is not None and untainted_at is not None and skipped_at <= untainted_at


def pass_by(connection: Connection, job: UUID, tickets: Sequence[Ticket], why: str) -> None:
    """Write down that events are left out by themselves: skipped, or mended by hand."""
    if tickets:
        connection.execute(
            insert(S),
            [
                {
                    "replay_id": job,
                    "event_sequence": ticket.event.sequence,
                    "gate": ticket.gate,
                    "event_id": ticket.event.event_id,
                    "event_type": ticket.event.event_type,
                    "stream_id": ticket.event.stream_id,
                    "verdict": why,
                }
                for ticket in tickets
            ],
        )


def take_back(connection: Connection, job: UUID, sequences: Collection[int]) -> None:
    """Set these events aside no more: they are being applied in the copy, or something else becomes of them."""
    if sequences:
        statement = delete(S).where(S.replay_id == _JOB, S.event_sequence.in_(bindparam("those", expanding=True)))
        connection.execute(statement, {"job": job, "those": list(sequences)})


def waiting_behind(connection: Connection, job: UUID, gates: Collection[str]) -> dict[str, int]:
    """Return the sequence of the first event that failed or waits in the copy behind each of these gates."""
    statement = (
        select(S.gate, func.min(S.event_sequence).label("first"))
        .where(S.replay_id == _JOB, or_(_WAITS, S.error_type.is_not(None)), S.gate.in_(_GATES))
        .group_by(S.gate)
    )
    rows = connection.execute(statement, {"job": job, "gates": sorted(gates)})
    return {row.gate: row.first for row in rows}


def waiting_among(connection: Connection, job: UUID, sequences: Collection[int]) -> frozenset[int]:
    """Return which of these events wait in the copy."""
    those: BindParameter[Sequence[int]] = bindparam("those", expanding=True)
    statement = select(S.event_sequence).where(S.replay_id == _JOB, _WAITS, S.event_sequence.in_(those))
    return frozenset(connection.execute(statement, {"job": job, "those": list(sequences)}).scalars())


def first_healed(connection: Connection, job: UUID, projection: str) -> int | None:
    """Return the lowest sequence that waits in the copy, and not in the live projection any more.

    What waits behind something that failed in the copy alone goes on waiting, and so does what was applied in the live
    projection before something earlier of its stream that is not.
    """
    other = aliased(S)
    failed = exists().where(other.replay_id == _JOB, other.gate == S.gate, other.error_type.is_not(None))
    earlier = aliased(S)
    overtaken = exists().where(
        earlier.replay_id == _JOB,
        earlier.gate == S.gate,
        earlier.event_sequence < S.event_sequence,
        _is_open(earlier.event_id),
    )
    statement = (
        select(S.event_sequence)
        .where(S.replay_id == _JOB, _WAITS, ~_is_open(S.event_id), ~failed, ~overtaken)
        .order_by(S.event_sequence)
        .limit(1)
    )
    found: int | None = connection.execute(statement, {"job": job, "projection": projection}).scalar_one_or_none()
    return found


def _is_open(event_id: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    failed = exists().where(F.projection_name == _NAME, F.event_id == event_id, F.resolved_at.is_(None))
    return or_(failed, exists().where(P.projection_name == _NAME, P.event_id == event_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Omitted:
    """So many events, of so many streams, were left out of a copy, and which ones were the first."""

    events: int
    streams: int
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was left out of a copy, by why: it waits or was skipped in the live projection, or failed in the copy.

    `by_hand` failed in the copy, too, where a person has made its effect in the live read model.
    """

    waiting: Omitted
    skipped: Omitted
    by_hand: Omitted
    failed: Omitted

    @property
    def passed(self) -> int:
        """So many events were left out on purpose."""
        return self.waiting.events + self.skipped.events + self.by_hand.events

    def as_json(self) -> dict[str, Json]:
        """Return it as it is kept with the job."""
        return asdict(self)


def summary(connection: Connection, job: UUID) -> Summary:
    """Count what the copy leaves out, and name the first ones."""
    failed = S.error_type.is_not(None)
    return Summary(
        waiting=_omitted(connection, job, _WAITS),
        skipped=_omitted(connection, job, S.verdict == SKIPPED, ~failed),
        by_hand=_omitted(connection, job, S.verdict == BY_HAND, ~failed),
        failed=_omitted(connection, job, failed),
    )


def _omitted(connection: Connection, job: UUID, *those: ColumnElement[bool]) -> Omitted:
    where = [S.replay_id == _JOB, *those]
    number = select(func.count(), func.count(S.gate.distinct())).where(*where)
    events, streams = connection.execute(number, {"job": job}).one()
    first = select(S.event_id).where(*where).order_by(S.event_sequence).limit(_NAMED)
    named = tuple(connection.execute(first, {"job": job}).scalars())
    return Omitted(events=int(events), streams=int(streams), first=named)
